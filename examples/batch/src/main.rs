//! A batch job as a component: an ordinary Rust program with a `main`. It reads its arguments, does its work, prints
//! the result and ends with an exit code, which becomes the container's.
//!
//! Run with, in `examples`,
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! coracle run target/wasm32-wasip2/release/batch.wasm -- primes 10000
//! coracle run target/wasm32-wasip2/release/batch.wasm -- words < batch/README.md
//! ```

use std::collections::HashMap;
use std::io::Read;

const USAGE: &str = "\
usage: batch primes LIMIT     count the primes below LIMIT (at most 100000000) and name the largest
       batch words [TEXT]...  count the words of TEXT, or of stdin, and name the most frequent
";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let report = match arguments.split_first() {
        Some((job, [limit])) if job == "primes" => match limit.parse() {
            Ok(limit @ 0..=100_000_000) => primes(limit),
            _ => usage(),
        },
        Some((job, [])) if job == "words" => {
            let mut text = String::new();
            if let Err(error) = std::io::stdin().read_to_string(&mut text) {
                eprintln!("batch: stdin: {error}");
                exit(1);
            }
            words(&text)
        }
        Some((job, text)) if job == "words" => words(&text.join(" ")),
        _ => usage(),
    };
    println!("{report}");
}

fn usage() -> ! {
    eprint!("{USAGE}");
    exit(2)
}

/// Ends with this exit code. `std::process::exit` would do for 0 and 1: on this target it knows only success and
/// failure.
fn exit(code: u8) -> ! {
    wasip2::cli::exit::exit_with_code(code);
    unreachable!("the host does not return from it")
}

/// The sieve of Eratosthenes: one byte per number, so the limit decides how much memory the job needs.
fn primes(limit: usize) -> String {
    let mut composite = vec![false; limit];
    let mut count = 0_usize;
    let mut largest = None;
    for number in 2..limit {
        if composite[number] {
            continue;
        }
        count += 1;
        largest = Some(number);
        // Smaller multiples have a smaller prime factor. A component's numbers have 32 bits, hence the saturation.
        for multiple in (number.saturating_mul(number)..limit).step_by(number) {
            composite[multiple] = true;
        }
    }
    match largest {
        Some(largest) => format!("{count} primes below {limit}, the largest {largest}"),
        None => format!("no primes below {limit}"),
    }
}

/// Words are what is left between characters that are not letters or digits, in lower case.
fn words(text: &str) -> String {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for word in text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    // Among equals the first in the alphabet, so that the same text always gives the same report.
    match counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0))) {
        Some((word, times)) => {
            format!("{total} words, {} different, most frequent \"{word}\" ({times})", counts.len())
        }
        None => "no words".to_owned(),
    }
}
