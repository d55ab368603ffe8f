//! The task {{name}}: greets whoever its arguments name.

use coracle_sdk::{Exit, stop};

#[coracle_sdk::main]
async fn main(arguments: Vec<String>) -> Exit {
    if arguments.is_empty() {
        eprintln!("usage: {{name}} NAME...");
        return Exit(2);
    }
    for name in &arguments {
        if stop::requested() {
            return Exit(1);
        }
        println!("{}", greeting(name));
    }
    Exit(0)
}

fn greeting(name: &str) -> String {
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets() {
        assert_eq!(greeting("you"), "Hello, you!");
    }
}
