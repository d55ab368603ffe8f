//! What a session shows of requests and of what containers write.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use coracle_agent::{ObservedRequest, RequestObserver};
use coracle_logs::LogScope;

use crate::log_sink::LineObserver;
use crate::output::say;
use crate::table::size;

/// The longest path that is shown whole, in characters.
const PATH_CHARS_MAX: usize = 60;

/// The terminal.
pub(super) struct Screen {
    has_colours: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { has_colours: wanted && std::io::stdout().is_terminal() }
    }

    fn request_line(&self, request: &ObservedRequest) -> String {
        let mut line = format!("{} {}", request.method, shortened(&request.path));
        // Writing to a string does not fail.
        let status = match &request.answer {
            Some(Ok(status)) => self.coloured(status.as_u16()),
            Some(Err(_)) => self.coloured(502),
            None => "left".to_owned(),
        };
        let _ = write!(line, "  {status}  {}", time_text(request.time));
        if let Some(usage) = request.usage {
            if let Some(fuel) = usage.fuel {
                let _ = write!(line, "  {} fuel", grouped(fuel));
            }
            let _ = write!(line, "  {}", size(usage.memory));
        }
        if let Some(Err(why)) = &request.answer {
            let _ = write!(line, "\n  {why}");
        }
        line
    }

    fn coloured(&self, status: u16) -> String {
        if !self.has_colours {
            return status.to_string();
        }
        let colour = match status {
            ..400 => 32,
            400..500 => 33,
            _ => 31,
        };
        format!("\x1b[{colour}m{status}\x1b[0m")
    }
}

impl RequestObserver for Screen {
    fn ended(&self, request: &ObservedRequest) {
        // Whoever reads no more does not want to know.
        let _ = say!("{}", self.request_line(request));
    }
}

impl LineObserver for Screen {
    fn line(&self, target: &LogScope, line: &str) {
        // PREFIX/CONTAINER/TASK
        let container = target.stream.rsplit('/').nth(1).unwrap_or(&target.stream);
        let _ = say!("{container} | {line}");
    }
}

fn shortened(path: &str) -> String {
    if path.chars().count() <= PATH_CHARS_MAX {
        return path.to_owned();
    }
    let cut: String = path.chars().take(PATH_CHARS_MAX).collect();
    format!("{cut}…")
}

fn time_text(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        micros @ 1_000..10_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        micros => format!("{} s", micros / 1_000_000),
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use coracle_sandbox::RequestUsage;
    use coracle_types::TaskId;
    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn a_request_is_one_line_and_why_it_failed_another() {
        let screen = Screen { has_colours: false };
        let mut request = ObservedRequest {
            task: TaskId(1),
            container: "web".into(),
            method: Method::GET,
            path: "/a?b".to_owned(),
            answer: Some(Ok(StatusCode::OK)),
            time: Duration::from_micros(1_250),
            usage: Some(RequestUsage { fuel: Some(1_234_567), memory: 1_200_000 }),
        };
        assert_eq!(screen.request_line(&request), "GET /a?b  200  1.2 ms  1,234,567 fuel  1.1 MiB");
        request.usage = None;
        request.answer = Some(Err("the guest trapped".to_owned()));
        assert_eq!(screen.request_line(&request), "GET /a?b  502  1.2 ms\n  the guest trapped");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!((grouped(0), grouped(999), grouped(1_000)), ("0".into(), "999".into(), "1,000".into()));
        assert_eq!(time_text(Duration::from_micros(999)), "999 µs");
        assert_eq!(time_text(Duration::from_millis(12)), "12.0 ms");
    }
}
