//! The sidecar: a command that writes a greeting into the volume the task's containers share. Told `once` it ends
//! with exit code 0 when the greeting is there, for a container that `dependsOn` its SUCCESS; told `every SECONDS`
//! it stays and keeps the greeting fresh.
//!
//! Run with, in `examples`,
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! mkdir -p /tmp/shared
//! coracle run --dir /tmp/shared::/shared --env GREETING=Ahoy \
//!     target/wasm32-wasip2/release/greeter.wasm -- once
//! cat /tmp/shared/greeting.txt
//! ```

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io, thread};

/// Where the web container looks for it.
const FILE: &str = "/shared/greeting.txt";

/// Written first and then renamed, so that a reader never meets half a greeting.
const DRAFT: &str = "/shared/greeting.txt.new";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let pause = match arguments[..] {
        ["once"] => None,
        ["every", seconds] => match seconds.parse() {
            Ok(seconds @ 1..=3600) => Some(Duration::from_secs(seconds)),
            _ => return usage(),
        },
        _ => return usage(),
    };
    for number in 1_u64.. {
        if let Err(error) = write(number) {
            eprintln!("greeter: {FILE}: {error}");
            return ExitCode::FAILURE;
        }
        println!("greeter: wrote greeting {number}");
        match pause {
            Some(pause) => thread::sleep(pause),
            None => break,
        }
    }
    ExitCode::SUCCESS
}

fn write(number: u64) -> io::Result<()> {
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    fs::write(DRAFT, format!("{greeting} from the sidecar (number {number}, at {seconds} s)\n"))?;
    fs::rename(DRAFT, FILE)
}

fn usage() -> ExitCode {
    eprintln!("usage: greeter once | greeter every SECONDS   (1 to 3600)");
    ExitCode::FAILURE
}
