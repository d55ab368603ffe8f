"""Drives `coracle dev` through a terminal.

    dev.py swap CORACLE HELLO HTTP EXOTIC    a service is swapped under load, and broken versions never replace it
    dev.py cargo CORACLE                     a Cargo project is built, run, broken and mended
"""

import codecs
import http.client
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

DEADLINE = 120


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, cwd):
        ours, theirs = pty.openpty()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CORACLE_", "CARGO_"))}
        self.process = subprocess.Popen(
            command, cwd=cwd, env={**kept, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.ours, self.text, self.at = ours, "", 0
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        # What is read may end in the middle of a letter, or between the two bytes of a line's end.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while True:
            try:
                some = os.read(self.ours, 65536)
            except OSError:
                return
            if not some:
                return
            self.text += decoder.decode(some).replace("\r", "")

    def expect(self, pattern):
        """Waits until something new is printed that matches, on one line."""
        deadline, pattern, begin = time.monotonic() + DEADLINE, re.compile(pattern), self.at
        while True:
            # Asked before what has been printed is looked at: nothing comes after that.
            is_over = self.process.poll() is not None and not self.reader.is_alive()
            text = self.text
            found = pattern.search(text, begin)
            if found:
                self.at = found.end()
                return found
            if is_over or time.monotonic() > deadline:
                sys.exit(f"{pattern.pattern!r} is not in what came after {text[:self.at][-200:]!r}:\n{self.said()}")
            # Lines that are whole don't change any more; many requests are printed meanwhile.
            begin = max(begin, text.rfind("\n") + 1)
            time.sleep(0.005)

    def said(self):
        """All that was printed but for the many requests."""
        return "\n".join(line for line in self.text.split("\n") if not line.startswith("GET /  "))

    def interrupt(self):
        os.write(self.ours, b"\x03")
        self.expect("Stopping")
        code = self.process.wait(DEADLINE)
        if code != 0:
            sys.exit(f"it ended with {code}:\n{self.said()}")


class Load:
    """Clients that ask for / one request after the other, and keep what they saw."""

    def __init__(self, port, host, clients=4):
        self.port, self.host, self.seen, self.failures, self.stopped = port, host, [], [], False
        self.threads = [threading.Thread(target=self.ask_on, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask_on(self):
        while not self.stopped:
            try:
                status, body = get(self.port, self.host, "/")
                if status == 200:
                    self.seen.append(body.split(b"\n")[0])
                else:
                    self.failures.append((status, body))
            except OSError as error:
                self.failures.append(error)

    def wait_for(self, condition, what):
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > deadline:
                sys.exit(f"timed out waiting for {what}; {self.failures[:3]}")
            time.sleep(0.005)

    def more(self, count):
        target = len(self.seen) + count
        self.wait_for(lambda: len(self.seen) >= target, "more answers")

    def sees(self, start):
        began = len(self.seen)
        self.wait_for(lambda: any(one.startswith(start) for one in self.seen[began:]), f"{start} among the answers")

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()


def get(port, host, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def put(path, data):
    """Replaces a file at once, as builds and editors do."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(data if isinstance(data, bytes) else data.encode())
    beside.replace(path)


def definition(colour):
    return json.dumps({
        "family": "app", "requiresCompatibilities": ["FARGATE"], "cpu": "512", "memory": "128",
        "containerDefinitions": [{
            "name": "web", "image": "app:latest", "portMappings": [{"containerPort": 80}],
            "environment": [{"name": "COLOUR", "value": colour}],
        }],
    })


def swap(coracle, hello, http_guest, exotic):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "src").mkdir()
        (folder / "coracle.toml").write_text(
            'build = "sh build.sh"\ncomponent = "out.wasm"\nwatch = ["src"]\n'
        )
        (folder / "build.sh").write_text(
            'which=$(cat src/which)\n[ -f "$which" ] || { echo "error: $which is no source" >&2; exit 3; }\n'
            "cp $which out.new && mv out.new out.wasm\n"
        )
        (folder / "task-definition.json").write_text(definition("red"))
        (folder / "src/which").write_text(hello)
        terminal = Terminal([coracle, "dev", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0"], folder)
        terminal.expect(r"\$ sh build\.sh\n")
        port = int(terminal.expect(r"app:1 answers at http://app\.default\.localhost:(\d+)/ after \d+ ms").group(1))
        host = "app.default.localhost"
        load = Load(port, host)
        load.sees(b"Hello from Coracle!")
        # Time, fuel and memory of each request.
        terminal.expect(r"GET /  .*200.*  [\d.]+ (µs|ms|s)  [1-9][\d,]* fuel  [\d.]+ (KiB|MiB)\n")

        put(folder / "src/which", http_guest)
        terminal.expect(r"src/which changed\.\n")
        terminal.expect(r"app:2 answers, \d+ ms after it was built\.")
        # Nobody meets the old version any more.
        answers = {get(port, host, "/")[1].split(b"\n")[0] for _ in range(20)}
        assert b"Hello from Coracle!" not in answers, answers

        put(folder / "src/which", "nothing")
        terminal.expect(r"error: nothing is no source\n")
        terminal.expect(r"The build failed; app:2 goes on answering\.")
        load.more(20)

        # A component that somebody else has built, and one that does not start.
        put(folder / "out.wasm", Path(exotic).read_bytes())
        terminal.expect(r"app:3 does not start: .*acme:missing/thing")
        terminal.expect(r"app:2 goes on answering\.")
        put(folder / "out.wasm", b"no component at all")
        terminal.expect(r"out\.wasm cannot be used: .*app:2 goes on answering\.")
        load.more(20)
        put(folder / "out.wasm", Path(hello).read_bytes())
        terminal.expect(r"app:4 answers")
        load.sees(b"Hello from Coracle!")

        put(folder / "task-definition.json", definition("green"))
        terminal.expect(r"app:5 answers")
        assert all(b"COLOUR=green" in get(port, host, "/env")[1] for _ in range(20))
        get(port, host, "/log")
        terminal.expect(r"web \| .+\n")
        put(folder / "task-definition.json", definition("green").replace('"cpu"', '"cpuu"'))
        terminal.expect(r"cpuu is not known; did you mean cpu\?; app:5 goes on answering\.")
        load.more(20)

        load.stop()
        assert not load.failures, f"{len(load.failures)} failed: {load.failures[:3]}\n{terminal.said()}"
        terminal.interrupt()


def cargo(coracle):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "src").mkdir()
        (folder / "Cargo.toml").write_text(
            '[package]\nname = "job"\nversion = "0.1.0"\nedition = "2024"\n\n[workspace]\n'
        )
        (folder / "task-definition.json").write_text(json.dumps({
            "family": "job", "containerDefinitions": [{"name": "job", "image": "job", "memory": 64, "command": ["a"]}],
        }))
        main = folder / "src/main.rs"
        main.write_text('fn main() { println!("one {:?}", std::env::args().nth(1)); }\n')
        terminal = Terminal([coracle, "dev", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0"], folder)
        terminal.expect(r"\$ cargo build --release --target wasm32-wasip2\n")
        terminal.expect(r"job \| one Some\(\"a\"\)\n")
        terminal.expect(r"job:1 has run: .*job exited with 0")
        put(main, "fn main() { nonsense }\n")
        terminal.expect(r"cannot find value `nonsense`")
        terminal.expect(r"The build failed; waiting for a change\.")
        put(main, "fn main() { std::process::exit(1) }\n")
        terminal.expect(r"job:2 has run: .*job exited with 1\b")
        # One that does not end is ended by a change.
        put(main, "fn main() { println!(\"waiting\"); loop { std::thread::sleep(std::time::Duration::from_secs(1)) } }\n")
        terminal.expect(r"job \| waiting\n")
        put(main, "fn main() { println!(\"done\") }\n")
        terminal.expect(r"job:4 has run: .*job exited with 0")
        terminal.interrupt()


if __name__ == "__main__":
    {"swap": swap, "cargo": cargo}[sys.argv[1]](*sys.argv[2:])
