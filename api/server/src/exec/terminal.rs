//! What a terminal does with what is typed, where there is none.
//!
//! session-manager-plugin turns its own terminal's line editing off and expects the other side to have a
//! pseudo-terminal. Components have none: they read a pipe. So this is the part of a terminal's line discipline that
//! people notice: what is typed is echoed and handed over line by line, can be taken back, and Ctrl-C and Ctrl-D do
//! what they do.

use bytes::Bytes;

/// How long a line may be, in bytes, as on Linux. What is typed beyond rings the bell.
const LINE_BYTES_MAX: usize = 4096;

/// What comes of something typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Show this.
    Echo(Bytes),
    /// Hand this to the command.
    Line(Bytes),
    /// Ctrl-D on an empty line.
    EndOfInput,
    /// Ctrl-C or Ctrl-\: end the command, with the exit code a shell would show.
    Interrupt(i32),
}

/// What Ctrl-C and Ctrl-\ end a command with: the exit code a shell would show.
pub(super) fn interrupt(byte: u8) -> Option<i32> {
    match byte {
        0x03 => Some(128 + 2),
        0x1c => Some(128 + 3),
        _ => None,
    }
}

/// A line that is being typed.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    line: Vec<u8>,
    /// The last was a carriage return: a line feed after it is no other line.
    after_return: bool,
}

impl Terminal {
    /// Takes in what was typed.
    pub(super) fn type_in(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut results = Results::default();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            if let Some(code) = interrupt(byte) {
                results.echo(if byte == 0x03 { b"^C\r\n" } else { b"^\\\r\n" });
                self.line.clear();
                results.push(Typed::Interrupt(code));
                continue;
            }
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' => {
                    results.echo(b"\r\n");
                    self.line.push(b'\n');
                    results.push(Typed::Line(std::mem::take(&mut self.line).into()));
                }
                // Ctrl-D.
                0x04 if self.line.is_empty() => results.push(Typed::EndOfInput),
                0x04 => results.push(Typed::Line(std::mem::take(&mut self.line).into())),
                // Backspace, as the two kinds of keyboards send it.
                0x08 | 0x7f => {
                    if self.take_back() {
                        results.echo(b"\x08 \x08");
                    }
                }
                // Ctrl-U.
                0x15 => {
                    while self.take_back() {
                        results.echo(b"\x08 \x08");
                    }
                }
                _ if self.line.len() >= LINE_BYTES_MAX - 1 => results.echo(b"\x07"),
                byte => {
                    self.line.push(byte);
                    match byte {
                        0x00..0x20 if byte != b'\t' => results.echo(&[b'^', byte + 0x40]),
                        byte => results.echo(&[byte]),
                    }
                }
            }
        }
        results.finish()
    }

    /// Takes the last character back, if there is one.
    fn take_back(&mut self) -> bool {
        // A character's later bytes begin with the bits 10.
        while self.line.pop_if(|byte| *byte & 0xc0 == 0x80).is_some() {}
        self.line.pop().is_some()
    }
}

/// What a command wrote, as a terminal shows it: a line feed moves to the left, too.
pub(super) fn shown(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        if byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(byte);
    }
    shown
}

/// Results in order, with one echo for what is echoed together.
#[derive(Default)]
struct Results {
    done: Vec<Typed>,
    echo: Vec<u8>,
}

impl Results {
    fn echo(&mut self, bytes: &[u8]) {
        self.echo.extend(bytes);
    }

    fn push(&mut self, typed: Typed) {
        self.end_echo();
        self.done.push(typed);
    }

    fn end_echo(&mut self) {
        if !self.echo.is_empty() {
            self.done.push(Typed::Echo(std::mem::take(&mut self.echo).into()));
        }
    }

    fn finish(mut self) -> Vec<Typed> {
        self.end_echo();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(text: &'static str) -> Typed {
        Typed::Echo(Bytes::from_static(text.as_bytes()))
    }

    fn line(text: &'static str) -> Typed {
        Typed::Line(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_are_echoed_and_handed_over_whole() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.type_in(b"l"), [echo("l")]);
        assert_eq!(terminal.type_in(b"s\rpwd"), [echo("s\r\n"), line("ls\n"), echo("pwd")]);
        assert_eq!(terminal.type_in(b"\r\n"), [echo("\r\n"), line("pwd\n")]);
        assert_eq!(terminal.type_in(b"\n"), [echo("\r\n"), line("\n")]);
    }

    #[test]
    fn what_is_typed_can_be_taken_back() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.type_in("grüß".as_bytes()), [echo("grüß")]);
        assert_eq!(terminal.type_in(b"\x7f\x08x\r"), [echo("\x08 \x08\x08 \x08x\r\n"), line("grx\n")]);
        assert_eq!(terminal.type_in(b"\x7f"), []);
        assert_eq!(terminal.type_in(b"ab\x15c\r"), [echo("ab\x08 \x08\x08 \x08c\r\n"), line("c\n")]);
    }

    #[test]
    fn control_keys_do_what_they_do() {
        let mut terminal = Terminal::default();
        assert_eq!(terminal.type_in(b"x\x03"), [echo("x^C\r\n"), Typed::Interrupt(130)]);
        assert_eq!(terminal.type_in(b"\x04"), [Typed::EndOfInput], "the line is gone");
        assert_eq!(terminal.type_in(b"x\x04"), [echo("x"), line("x")]);
        assert_eq!(terminal.type_in(b"\x1b[A"), [echo("^[[A")]);
        let long = vec![b'x'; LINE_BYTES_MAX * 2];
        let typed = terminal.type_in(&[&long[..], b"\r"].concat());
        let Some(Typed::Line(line)) = typed.get(1) else { panic!("{typed:?}") };
        assert_eq!(line.len(), LINE_BYTES_MAX);
    }

    #[test]
    fn output_moves_to_the_left() {
        assert_eq!(shown(b"a\nb"), b"a\r\nb");
    }
}
