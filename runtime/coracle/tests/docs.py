"""Runs the commands of a Markdown document, one after the other, and compares what they print with what it says.

    docs.py ROOT DOCUMENT WORK CORACLE AWS_BIN

Blocks marked `console` have commands behind `$ ` and their output below; blocks marked `sh` are scripts whose output is
not shown. A line or part of a line that varies is written `…` in the document; times, sizes, ids and dates need no such
mark, see `masked`. Commands run in WORK, a copy of what documents refer to, with the ports that documents name replaced
by free ones. What serves until Ctrl-C is left running in the background, as readers do in another terminal.

An HTML comment before a block says what else there is to know: `<!-- run: fails -->` for commands that have to fail,
`<!-- run: not REASON -->` for a block that is not run, and `<!-- run: goes on -->` for what the server that was started
last prints next, in a block of any language.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Of one command: some of them compile, on machines that do much else.
DEADLINE = 600
# Ports that documents use, beside those of the API and the router.
OTHER_PORTS = ["8000", "8081", "9000", "9090"]
# What a server has to print next, when a document says that it goes on.
GOES_ON_DEADLINE = 120
# Commands that serve until Ctrl-C, and what they print once they do.
SERVERS = [
    (re.compile(r"^coracle up\b"), "aws ecs list-clusters"),
    (re.compile(r"^(cargo run --release --|coracle) demo$"), "It stays up until Ctrl-C."),
    (re.compile(r"^coracle run .*--listen"), "Serving "),
    (re.compile(r"^coracle dev\b"), "Ctrl-C stops."),
    (re.compile(r"^cargo run --release -p functions\b"), "listening on "),
]
# How often the `aws` CLI looks again when it is told to wait, in seconds; by itself it sleeps for 6 or 15 of them.
LOOK_AGAIN = 0.2


def blocks(text):
    """The blocks of a document that are run: (line, language, remark, lines)."""
    remark, found, lines = None, [], text.split("\n")
    index = 0
    while index < len(lines):
        line = lines[index]
        comment = re.match(r"\s*<!-- run: (.*) -->$", line)
        fence = re.match(r"^(\s*)```(\w*)", line)
        if comment:
            remark = comment.group(1)
        elif fence:
            start, indent = index + 1, len(fence.group(1))
            index += 1
            inside = []
            while index < len(lines) and not lines[index].strip().startswith("```"):
                inside.append(lines[index][indent:])
                index += 1
            if fence.group(2) in ("sh", "console", "bash") or remark == "goes on":
                found.append((start, fence.group(2), remark, inside))
            remark = None
        elif line.strip():
            remark = None
        index += 1
    return found


def is_server(command):
    return next((ready for pattern, ready in SERVERS if pattern.search(command)), None)


def without_comment(command):
    return re.sub(r"\s{2,}#.*$", "", command).strip()


def commands(language, lines):
    """(command, expected output or None) of a block."""
    if language != "console":
        found, current = [], []
        for line in lines:
            current.append(line)
            text = "\n".join(current)
            if unfinished(text):
                continue
            if text.strip() and not text.strip().startswith("#"):
                found.append((text, None))
            current = []
        return found
    found = []
    for line in lines:
        serves = found and is_server(without_comment(found[-1][0]))
        if line.startswith("$ ") and not serves:
            found.append((line[2:], []))
        elif found and not found[-1][1] and unfinished(found[-1][0]):
            found[-1] = (found[-1][0] + "\n" + line, [])
        elif found:
            found[-1][1].append(line)
    return found


def unfinished(text):
    """Whether a command goes on in the next line: a here-document, a loop or a quote, or what ends in a backslash."""
    here = re.search(r"<<-?\s*'?(\w+)'?", text)
    if here:
        # What is in it, and in the script it may be, is no command.
        return not re.search(rf"^\s*{here.group(1)}$", text, re.M)
    loop = re.match(r"\s*(for|while) ", text) and not re.search(r"\bdone\b", text)
    return bool(text.endswith("\\") or text.count("'") % 2 or text.count('"') % 2 or loop)


MASKS = [
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.+Z-]+"), "<date>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b"), "<id>"),
    (re.compile(r"\becs-svc/\d+\b"), "ecs-svc/<id>"),
    (re.compile(r"(?<![\w.])\d+m \d+s\b"), "<time>"),
    (re.compile(r"(?<![\w.])\d+(\.\d+)? ?(ns|µs|ms|s|seconds)\b"), "<time>"),
    (re.compile(r"(?<![\w.])(\d+m)?\d+s( ago)?\b"), "<time>"),
    (re.compile(r"(?<![\w.])\d+(\.\d+)? ?(B|KiB|MiB)\b"), "<size>"),
    (re.compile(r"\d[\d,]* fuel\b"), "<fuel> fuel"),
    (re.compile(r"[ \t]+"), " "),
]


def masked(line):
    for pattern, text in MASKS:
        line = pattern.sub(text, line)
    return line.strip()


def line_matches(expected, actual):
    parts = [re.escape(part.strip()) for part in re.split("…|\\.\\.\\.", expected)]
    return re.fullmatch(r"\s*.*?\s*".join(parts), actual) is not None


def matches(expected, actual):
    """Whether the lines are those expected; a line of nothing but `…` stands for any number of lines."""
    if not expected:
        return not actual
    if expected[0] in ("…", "..."):
        return any(matches(expected[1:], actual[skip:]) for skip in range(len(actual) + 1))
    return bool(actual) and line_matches(expected[0], actual[0]) and matches(expected[1:], actual[1:])


def lines_of(text):
    found = [masked(line) for line in text.replace("\r", "").split("\n")]
    return [line for line in found if line]


def free_ports(count):
    """Ports that are free, and below those that the kernel gives to connections: one of these could be taken by the time a
    server wants it. Sessions at the same time begin at different ones."""
    first, room, found = 20_000, 12_000, []
    for step in range(room):
        port = first + (os.getpid() * 331 + step) % room
        with socket.socket() as holder:
            try:
                holder.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(str(port))
        if len(found) == count:
            return found
    raise SystemExit(f"there are no {count} free ports from {first} to {first + room - 1}")


class Session:
    """A shell, and the servers beside it."""

    def __init__(self, work, coracle, aws):
        self.work, self.servers, self.shown = Path(work), {}, None
        ports = ["4566", "8080", *OTHER_PORTS]
        self.ports = dict(zip(ports, free_ports(len(ports))))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CORACLE_"))}
        self.environment = {
            **kept,
            "PATH": f"{self.shims(coracle)}:{aws}:{kept['PATH']}",
            "CORACLE_API": f"127.0.0.1:{self.ports['4566']}",
            "CORACLE_ROUTER": f"127.0.0.1:{self.ports['8080']}",
            # Where clients look unless told otherwise.
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['4566']}",
            "CORACLE_DATA_DIR": str(self.work / "data"),
            "CORACLE_CPU": "65536",
            "CORACLE_MEMORY": "65536",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "AWS_DATA_PATH": self.impatient_waiters(Path(aws).parent),
            "NO_COLOR": "1",
        }
        for pattern in ("*.yaml", "task-definition*.json"):
            for file in self.work.rglob(pattern):
                file.write_text(self.here(file.read_text()))
        # A character may come in two pieces with something else between them: curl shows its progress on one stream in
        # the middle of a body that it writes to the other.
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=self.work, env=self.environment, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )

    def shims(self, coracle):
        """Stand-ins: what documents build in release has been built for the tests, and nobody presses Ctrl-C."""
        shims = self.work / ".shims"
        shims.mkdir()
        beside = Path(coracle).parent
        texts = {
            "coracle": f'case "$1 $2" in "logs -f") exec python3 {__file__} --follow {coracle} "$@";; esac\n'
                       f'exec {coracle} "$@"\n',
            # The AWS CLI looks for it by this name.
            "session-manager-plugin": f'exec python3 {Path(__file__).with_name("session_manager_plugin.py")} "$@"\n',
            "cargo": 'case "$*" in\n'
                     '"install --locked --path runtime/coracle") exit 0;;\n'
                     '"install --target wasm32-wasip2 --root "*) exit 0;;\n'
                     '"build --manifest-path examples/Cargo.toml --release --target wasm32-wasip2"*) exit 0;;\n'
                     '"build --manifest-path examples/thumbnails/Cargo.toml --release --target wasm32-wasip2") exit 0;;\n'
                     f'"run -p plugin-host -- "*) shift 4; exec {beside}/plugin-host "$@";;\n'
                     f'"run --release -p functions -- "*) shift 5; exec {beside}/functions "$@";;\n'
                     # What is measured means nothing here: that it is measured does.
                     f'"run --release -- bench compare "*) shift 4; exec {beside}/coracle-bench "$@";;\n'
                     f'"run --release -- bench cold-start"*) shift 5; exec {beside}/coracle-bench cold-start --quick "$@";;\n'
                     f'"run --release -- bench "*) shift 4; exec {beside}/coracle-bench --quick "$@";;\n'
                     f'"run --release -- "*) shift 3; exec {coracle} "$@";;\n'
                     'esac\nshims=$(dirname "$0"); PATH=${PATH#$shims:} exec cargo "$@"\n',
        }
        for name, text in texts.items():
            path = shims / name
            path.write_text("#!/bin/sh\n" + text)
            path.chmod(0o755)
        return shims

    def impatient_waiters(self, clients):
        """A folder with the waiters of the `aws` CLI, which look again soon, and for as long as before in all."""
        data = self.work / ".botocore"
        for original in clients.glob("lib/python*/site-packages/botocore/data/*/*/waiters-2.json"):
            service, version = original.parts[-3:-1]
            if service not in ("ecs", "elbv2"):
                continue
            waiters = json.loads(original.read_text())
            for waiter in waiters["waiters"].values():
                waiter["maxAttempts"] = int(waiter["maxAttempts"] * waiter["delay"] / LOOK_AGAIN)
                waiter["delay"] = LOOK_AGAIN
            copy = data / service / version / "waiters-2.json"
            copy.parent.mkdir(parents=True)
            copy.write_text(json.dumps(waiters))
        return str(data)

    def here(self, text):
        """A command with the ports and directories of this session."""
        for port, own in self.ports.items():
            text = re.sub(rf"(?<![\w.]){port}(?!\.?\w)", own, text)
        return text.replace("/tmp/", f"{self.work}/tmp/")

    def there(self, text):
        """Output with the ports and directories of the document."""
        for port, own in self.ports.items():
            text = re.sub(rf"(?<![\w.]){own}(?!\.?\w)", port, text)
        return text.replace(f"{self.work}/tmp/", "/tmp/")

    def run(self, command):
        """Runs a command in the shell and gives its exit code and output."""
        ready = is_server(without_comment(command))
        if ready:
            return self.serve(without_comment(command), ready)
        mark = f"--- {os.urandom(8).hex()} ---"
        # The command does not read what is meant for the shell.
        with tempfile.NamedTemporaryFile("w", suffix=".sh", dir=self.work / ".shims", delete=False) as script:
            script.write(self.here(command) + "\n")
        self.shell.stdin.write(f". {script.name} </dev/null; ended=$?\necho; echo \"{mark} $ended\"\n")
        self.shell.stdin.flush()
        output = []

        def too_late(*_):
            raise SystemExit(f"{command!r} did not end within {DEADLINE} s: {''.join(output)}")

        signal.signal(signal.SIGALRM, too_late)
        signal.alarm(DEADLINE)
        for line in self.shell.stdout:
            if line.startswith(mark):
                signal.alarm(0)
                return int(line.split()[-1]), self.there("".join(output))
            output.append(line)
        raise SystemExit(f"the shell has ended at {command!r}: {''.join(output)}")

    def serve(self, command, ready):
        """Leaves a server running and gives what it printed until it served; the one before has to stop."""
        kind = "run" if command.startswith("coracle run") else "up"
        self.stop(kind)
        log = self.work / f".{kind}.log"
        with log.open("w") as output:
            self.servers[kind] = subprocess.Popen(
                ["bash", "-c", "exec " + self.here(command)], cwd=f"/proc/{self.shell.pid}/cwd", env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )
        deadline = time.monotonic() + DEADLINE
        while True:
            text = log.read_text(errors="replace")
            position = text.find(ready)
            end = text.find("\n", position) + 1
            if position >= 0 and end > 0:
                self.shown = (log, end)
                # A key that is shown once is pasted, as readers are told to.
                for key in re.findall(r"^ *(export AWS_ACCESS_KEY_ID=AKIA.*)$", text[:end], re.M):
                    self.run(key)
                return 0, self.there(text[:end])
            if self.servers[kind].poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command!r} does not say {ready!r}: {text}")
            time.sleep(0.01)

    def goes_on(self, expected):
        """Waits until the server that was started last has printed this, after what it has shown. Gives what it printed
        instead, when it does not."""
        log, begin = self.shown
        deadline = time.monotonic() + GOES_ON_DEADLINE
        while True:
            text = self.there(log.read_text(errors="replace")[begin:])
            if matches(lines_of("\n".join(expected)), lines_of(text)):
                return None
            if time.monotonic() > deadline:
                return text
            time.sleep(0.05)

    def stop(self, kind):
        server = self.servers.pop(kind, None)
        if server:
            server.send_signal(signal.SIGINT)
            server.wait(DEADLINE)

    def end(self):
        self.shell.stdin.close()
        self.shell.wait(DEADLINE)
        for kind in list(self.servers):
            self.stop(kind)


def follow(command):
    """Runs what prints until Ctrl-C, until it has printed something and then nothing more for a second."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        deadline, size, since = time.monotonic() + 60, 0, time.monotonic()
        while process.poll() is None and time.monotonic() < deadline:
            if size != os.fstat(output.fileno()).st_size:
                size, since = os.fstat(output.fileno()).st_size, time.monotonic()
            if size and time.monotonic() - since > 1:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        code = process.wait(DEADLINE)
        output.seek(0)
        sys.stdout.buffer.write(output.read())
    sys.exit(code)


def main():
    # Whoever was started in the background by a shell ignores it, and so would the servers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1] == "--follow":
        follow(sys.argv[2:])
    root, document, work, coracle, aws = sys.argv[1:]
    text = (Path(root) / document).read_text()
    # Whoever says "in another terminal" does not mean this one.
    starts_itself = any(
        is_server(without_comment(command)) and "coracle up" in command
        for _, language, remark, lines in blocks(text) if remark != "goes on" for command, _ in commands(language, lines)
    )
    session = Session(work, coracle, aws)
    wrong, count = [], 0
    try:
        if not starts_itself and "coracle up" in text:
            session.serve("coracle up", is_server("coracle up"))
        for line, language, remark, lines in blocks(text):
            if remark and remark.startswith("not "):
                print(f"{document}:{line}: not run: {remark[4:]}")
                continue
            if remark == "goes on":
                printed = session.goes_on(lines)
                if printed is not None:
                    wrong.append(f"{document}:{line}: the server printed\n{printed}\nwhere the document says\n" + "\n".join(lines))
                continue
            for command, expected in commands(language, lines):
                code, output = session.run(command)
                count += 1
                place = f"{document}:{line}: $ {command}"
                if (code != 0) != (remark == "fails"):
                    wrong.append(f"{place}\nended with {code}:\n{output}")
                elif expected is not None and not matches(lines_of("\n".join(expected)), lines_of(output)):
                    wrong.append(f"{place}\nprinted\n{output}\nwhere the document says\n" + "\n".join(expected))
    finally:
        session.end()
    if wrong:
        log = session.work / ".up.log"
        sys.exit("\n\n".join(wrong) + ("\n\n" + log.read_text() if log.exists() else ""))
    print(f"{document}: {count} commands")


if __name__ == "__main__":
    main()
