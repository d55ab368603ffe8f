//! `coracle-bench-extism PLUGIN.wasm CALLS TEXT`: calls the plugin's export `words` so many times with the text, in one
//! instance, as Extism's users do. Prints the answer, the bytes of memory that each of a hundred further instances took,
//! and how many nanoseconds each call took, a line each.

use std::fmt::Write as _;
use std::time::Instant;

use extism::{Manifest, Plugin, PluginBuilder, Wasm};

/// Instances that are held to see what one takes.
const HELD: u64 = 100;

fn main() -> Result<(), extism::Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, calls, text] = &arguments[..] else {
        return Err(extism::Error::msg("usage: coracle-bench-extism PLUGIN.wasm CALLS TEXT"));
    };
    let manifest = Manifest::new([Wasm::data(std::fs::read(file)?)]);
    let compiled = extism::CompiledPlugin::new(PluginBuilder::new(manifest))?;
    let mut plugin = Plugin::new_from_compiled(&compiled)?;
    let answer = plugin.call::<&str, String>("words", text)?;
    let mut times = String::new();
    for _ in 0..calls.parse::<u32>()? {
        let begun = Instant::now();
        let again = plugin.call::<&str, &str>("words", text)?;
        let took = begun.elapsed().as_nanos();
        if again != answer {
            return Err(extism::Error::msg(format!("another answer: {again}")));
        }
        let _ = writeln!(times, "{took}");
    }
    let before = memory()?;
    let mut held = Vec::new();
    for _ in 0..HELD {
        let mut plugin = Plugin::new_from_compiled(&compiled)?;
        plugin.call::<&str, &str>("words", text)?;
        held.push(plugin);
    }
    println!("{answer}\n{}\n{times}", (memory()?.saturating_sub(before)) / HELD);
    Ok(())
}

/// Bytes of memory this process has to itself.
fn memory() -> Result<u64, extism::Error> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
