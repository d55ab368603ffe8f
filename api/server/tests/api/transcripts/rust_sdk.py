"""Writes a program that sends every request of a transcript again, in its order, with the AWS SDK for Rust, and checks
that the SDK can read each answer. Recorded like record.py's, it makes the transcript of that SDK.

    cargo run -p coracle-server --example record -- 127.0.0.1:4566 api/server/tests/api/transcripts/ecs-rust-sdk.jsonl &
    python3 api/server/tests/api/transcripts/rust_sdk.py /tmp/rust-sdk
    cargo run --manifest-path /tmp/rust-sdk/Cargo.toml -- http://127.0.0.1:4566
    curl http://127.0.0.1:4566/done

The SDK's source is read to know how it names things; cargo fetches it. Compiling it takes some minutes.
"""

import json
import pathlib
import re
import subprocess
import sys

MANIFEST = """[package]
name = "rust-sdk"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
aws-sdk-ecs = { version = "1", default-features = false, features = ["behavior-version-latest", "rt-tokio"] }
aws-smithy-http-client = { version = "1", features = ["default-client"] }
tokio = { version = "1", features = ["macros", "rt"] }

[workspace]
"""

PRELUDE = """#![recursion_limit = "512"]
use std::collections::HashMap;

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::types;
use aws_sdk_ecs::{Client, Config};

/// Whether the SDK understood what it was answered: a success, or an error by its name.
fn check<O, E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(
    line: usize,
    operation: &str,
    expected: Option<&str>,
    answer: Result<O, SdkError<E, R>>,
) {
    match (answer, expected) {
        (Ok(_), None) => {}
        (Err(SdkError::ServiceError(error)), Some(code)) if error.err().code() == Some(code) => {}
        (Ok(_), Some(code)) => panic!("line {line}: {operation} should fail with {code}"),
        (Err(error), expected) => panic!("line {line}: {operation} should be {expected:?}: {error:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let endpoint = std::env::args().nth(1).expect("ENDPOINT");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(endpoint)
        .retry_config(aws_sdk_ecs::config::retry::RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);
"""


def source_of_the_sdk(crate):
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--manifest-path", crate / "Cargo.toml"],
        check=True,
        capture_output=True,
    )
    [package] = [one for one in json.loads(metadata.stdout)["packages"] if one["name"] == "aws-sdk-ecs"]
    return pathlib.Path(package["manifest_path"]).parent / "src"


class Sdk:
    def __init__(self, source):
        self.structs, self.enums, self.operations = {}, set(), {}
        for path in source.glob("types/_*.rs"):
            text = path.read_text()
            for name in re.findall(r"impl ::std::convert::From<&str> for (\w+) ", text):
                self.enums.add(name)
            self.read_struct(text)
        for path in source.glob("operation/*/_*_input.rs"):
            name = self.read_struct(path.read_text())
            self.operations[name.removesuffix("Input")] = (path.parent.name, name)

    def read_struct(self, text):
        """Fields, in the order of the members they stand for, and whether its builder can refuse."""
        found = re.search(r"^pub struct (\w+) {(?:\n(.*?)^)?}", text, re.M | re.S)
        if not found:
            return None
        fields = re.findall(r"^    pub (?:r#)?(\w+): (.*),$", found[2] or "", re.M)
        # The schemas beside a struct are those of its own members, and of the items of lists among them.
        ids = re.findall(r'"com\.amazonaws\.ecs[.a-z]*#(\w+)\$(\w+)"', text)
        members = [member for shape, member in ids if shape.lower() == found[1].lower()]
        may_fail = "pub fn build(self) -> ::std::result::Result" in text and "BuildError" in text
        assert len(members) == len(fields), (found[1], members, fields)
        self.structs[found[1]] = (dict(zip(members, fields)), may_fail)
        return found[1]

    def value(self, kind, value):
        """A Rust expression of this type."""
        if inner := re.fullmatch(r"::std::option::Option<(.*)>", kind):
            return self.value(inner[1], value)
        if inner := re.fullmatch(r"::std::vec::Vec<(.*)>", kind):
            return f"vec![{', '.join(self.value(inner[1], item) for item in value)}]"
        if inner := re.fullmatch(r"::std::collections::HashMap<::std::string::String, (.*)>", kind):
            pairs = (f"({json.dumps(key)}.to_owned(), {self.value(inner[1], item)})" for key, item in value.items())
            return f"HashMap::from([{', '.join(pairs)}])"
        if kind == "::std::string::String":
            return f"{json.dumps(value, ensure_ascii=False)}.to_owned()"
        if kind == "bool":
            return "true" if value else "false"
        if kind in ("i32", "i64", "f32", "f64"):
            return f"{value}_{kind}"
        name = kind.removeprefix("crate::types::")
        if name in self.enums:
            return f"types::{name}::from({json.dumps(value)})"
        fields, may_fail = self.structs[name]
        built = f"types::{name}::builder(){self.setters(fields, value)}.build()"
        return f"{built}.expect({json.dumps(name)})" if may_fail else built

    def setters(self, fields, value):
        setters = ""
        for member, item in value.items():
            field, kind = fields[member]
            # An empty union can't be said.
            if item == {} and kind.rstrip(">").rpartition("::")[2] not in self.structs:
                continue
            setters += f".set_{field}(Some({self.value(kind, item)}))"
        return setters

    def call(self, number, exchange):
        method, name = self.operations[exchange["operation"]]
        setters = self.setters(self.structs[name][0], exchange["request"])
        expected = "None" if exchange["status"] == 200 else f'Some({json.dumps(exchange["response"]["__type"])})'
        operation = json.dumps(exchange["operation"])
        return f"    check({number}, {operation}, {expected}, client.{method}(){setters}.send().await);\n"


def main():
    crate = pathlib.Path(sys.argv[1])
    (crate / "src").mkdir(parents=True, exist_ok=True)
    (crate / "Cargo.toml").write_text(MANIFEST)
    (crate / "src/main.rs").write_text("fn main() {}\n")
    sdk = Sdk(source_of_the_sdk(crate))
    transcript = pathlib.Path(__file__).with_name("ecs.jsonl").read_text().splitlines()
    calls, left_out = "", []
    for number, line in enumerate(transcript, 1):
        exchange = json.loads(line)
        try:
            calls += sdk.call(number, exchange)
        except (KeyError, AttributeError, TypeError) as error:
            left_out.append(f"line {number}, {exchange['operation']}: {error!r}")
    done = '    println!("every answer was understood");\n}\n'
    (crate / "src/main.rs").write_text(PRELUDE + calls + done)
    print(f"{len(transcript) - len(left_out)} requests")
    if left_out:
        sys.exit("\n  ".join(["the SDK has no words for:", *left_out]))


main()
