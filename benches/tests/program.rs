//! The program `coracle-bench` as a whole: every bench still runs, its report can be read, and an interrupt leaves
//! nothing behind.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coracle_bench::containers::{Native, Speaks};
use coracle_bench::peers::{coracle_binary, find};
use coracle_bench::report::{Report, Table, Verdict, page};

/// Generous: the machine may be shared by many.
const DEADLINE: Duration = Duration::from_secs(600);

fn bench(arguments: &[&str], temporary: &Path) -> Command {
    // It builds the binary if this is the only test that was asked for.
    coracle_binary().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle-bench"));
    command.args(arguments).env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

/// A directory below the target directory that is empty.
fn empty(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn every_bench_runs_and_the_report_shows_all_of_it() {
    let (out, temporary) = (empty("bench-out"), empty("bench-tmp"));
    let (json, html) = (out.join("report.json"), out.join("report.html"));
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let output = bench(&[&["--quick"][..], &files].concat(), &temporary).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));

    let report: Report = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for bench in &report.benches {
        assert_eq!(bench.failed, None, "{}", bench.name);
        assert!(text.contains(&format!("\n{} — ", bench.name)), "{} is not printed", bench.name);
        let rows = bench.findings.tables.iter().flat_map(|table| &table.rows);
        let ours = rows.filter(|row| row.side == coracle_bench::report::Side::Ours);
        for row in ours {
            assert!(
                row.measure.is_some() && row.failed.is_none(),
                "{}: {}: {:?}",
                bench.name,
                row.label,
                row.failed
            );
        }
    }
    let compared =
        bench(&["compare", json.to_str().unwrap(), json.to_str().unwrap()], &temporary).output().unwrap();
    assert!(String::from_utf8_lossy(&compared.stdout).contains("Nothing moved beyond noise."));
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "something was left behind");

    assert_eq!(std::fs::read_to_string(&html).unwrap(), page(&report));
    // A table in which nothing is above zero has no chart; in any other, every row with a figure has a bar.
    let figures = |table: &Table| table.rows.iter().filter_map(|row| row.measure.clone()).collect::<Vec<_>>();
    let tables = report.benches.iter().flat_map(|bench| &bench.findings.tables).map(figures);
    let charts = tables.filter(|figures| figures.iter().any(|figure| figure.high > 0.0));
    let bars = charts.map(|figures| figures.len()).sum();
    look_at(&html, bars);
}

/// What is added to a copy of the page: it measures what the browser made of every chart.
const PROBE: &str = r#"<script>
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("svg.chart")].map(chart => {
    const bars = [...chart.querySelectorAll(".bar")].map(bar => bar.getBoundingClientRect());
    const frame = chart.getBoundingClientRect();
    const labels = [...chart.querySelectorAll(".label")].map(label => label.getBoundingClientRect());
    return {
      promised: +chart.dataset.bars,
      drawn: bars.filter(bar => bar.width > 0 && bar.height > 4 && bar.left >= frame.left && bar.right <= frame.right).length,
      cut: labels.filter(label => label.left < frame.left).length,
      colours: new Set([...chart.querySelectorAll(".bar")].map(bar => getComputedStyle(bar).fill)).has("rgb(0, 0, 0)"),
    };
  });
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>"#;

/// Opens the page in a real browser, in its light and in its dark form, and checks that every chart has its bars.
fn look_at(html: &Path, bars: usize) {
    let Some(chromium) = find("chromium") else {
        eprintln!("SKIPPED: the report is not opened in a browser, because chromium is not installed");
        return;
    };
    let dir = empty("browser");
    let probed = dir.join("probed.html");
    let page = std::fs::read_to_string(html).unwrap();
    std::fs::write(&probed, page.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    for dark in [false, true] {
        let profile = dir.join(if dark { "dark" } else { "light" });
        let mut browser = Command::new(&chromium);
        browser.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--window-size=1200,900",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ]);
        if dark {
            browser.arg("--blink-settings=preferredColorScheme=0");
        }
        browser
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("file://{}", probed.display()));
        let output = browser.stdin(Stdio::null()).output().unwrap();
        let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let said: Vec<&str> = log.lines().filter(|line| line.contains(":CONSOLE")).collect();
        assert!(said.is_empty(), "the console is not empty: {said:?}");
        let probe = dom.split("<pre id=\"probe\">").nth(1).and_then(|rest| rest.split("</pre>").next());
        let charts: Vec<serde_json::Value> =
            serde_json::from_str(probe.unwrap_or_else(|| panic!("the page did not load: {log}"))).unwrap();
        let drawn: u64 = charts.iter().map(|chart| chart["drawn"].as_u64().unwrap()).sum();
        for chart in &charts {
            assert_eq!(chart["promised"], chart["drawn"], "bars are missing");
            assert_eq!(chart["cut"], 0, "labels are cut off");
            assert_eq!(chart["colours"], false, "bars are black: the style sheet does not reach them");
        }
        assert_eq!(usize::try_from(drawn).unwrap(), bars, "a row has no bar");
    }
}

/// The command lines of all processes that have this on theirs, in the names of their open files, or in those of their
/// mounts.
fn processes_with(text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let found = all.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let files = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut names = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        let has = line.contains(text)
            || mounts.contains(text)
            || names.any(|name| name.to_string_lossy().contains(text));
        has.then_some(line)
    });
    found.collect()
}

/// What is called so in these directories.
fn files_with(text: &str, directories: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let entries = directories.into_iter().filter_map(|directory| std::fs::read_dir(directory).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(text))).collect()
}

/// Runs a bench until a process of it has this on its command line, and interrupts it then.
#[track_caller]
fn interrupt(bench_name: &str, at: &str) {
    let name = format!("bench-interrupted-{bench_name}-{}", at.trim_matches([' ', '-']).replace('/', "-"));
    let (temporary, files) = (empty(&name), empty(&format!("{name}-out")));
    let json = files.join("report.json");
    let mut run = bench(&[bench_name, "--json", json.to_str().unwrap()], &temporary);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Every directory, container and control group of the run has this in its name; so have the command lines of all it
    // starts, but for those that are given another part of the temporary directory.
    let mark = format!("coracle-bench-{}-", child.id());
    let begun = Instant::now();
    while !processes_with(&mark).iter().any(|line| line.contains(at)) {
        assert!(begun.elapsed() < DEADLINE, "{name}: it has not started {at}");
        assert!(child.try_wait().unwrap().is_none(), "{name}: it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{name}: {status}");
    let left = || {
        let mut left: Vec<String> = processes_with(&mark);
        left.extend(processes_with(temporary.to_str().unwrap()));
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let groups = hierarchies.map(|entry| entry.path());
        let directories = groups.chain(["/run".into(), "/sys/fs/cgroup".into()]);
        left.extend(files_with(&mark, directories).iter().map(|path| path.display().to_string()));
        left.extend(files_with("", [temporary.clone()]).iter().map(|path| path.display().to_string()));
        left
    };
    let begun = Instant::now();
    while !left().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}: left behind: {:#?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!json.exists(), "{name}: a run that was interrupted has no report");
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    // What each starts, if it is there; and whether only root may.
    let moments = [
        ("cold-start", " up ", None, false),
        ("cold-start", "crun --root", Some("crun"), true),
        ("cold-start", "runc --root", Some("runc"), true),
        ("cold-start", "runsc", Some("runsc"), true),
        ("cold-start", "podman", Some("podman"), true),
        ("noisy", "/spin", Some("crun"), true),
        ("proxy", "nginx", Some("nginx"), false),
        ("store", "etcd", Some("etcd"), false),
        ("swap", " dev ", None, false),
        ("plugins", "rustc", None, false),
    ];
    let is_root = rustix::process::geteuid().is_root();
    std::thread::scope(|scope| {
        for (bench, at, program, by_root) in moments {
            if program.is_some_and(|program| find(program).is_none()) || by_root && !is_root {
                eprintln!("SKIPPED: {bench} is not interrupted while it runs {at}");
                continue;
            }
            scope.spawn(move || interrupt(bench, at));
        }
    });
}

/// A program for this machine that does what the fixture `command` does, but when told to be another one.
const OTHER: &str = r#"fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match (arguments[0].as_str(), arguments[1].as_str()) {
        ("echo", "another") => println!("not what was asked for"),
        ("echo", text) => println!("{text}"),
        ("exit", code) => std::process::exit(if code == "5" { 6 } else { code.parse().unwrap() }),
        _ => {}
    }
}"#;

#[test]
fn a_program_of_the_users_is_compared_only_if_it_does_the_same() {
    let (out, temporary) = (empty("bench-yours"), empty("bench-yours-tmp"));
    let native = Native::build("other", OTHER, &[], &[], Speaks::Nothing).unwrap();
    let json = out.join("report.json");
    for (does, is_same) in [
        (["echo", "the-same"], true),
        (["exit", "3"], true),
        (["echo", "another"], false),
        (["exit", "5"], false),
    ] {
        let mut run =
            bench(&["cold-start", "--quick", "--json", json.to_str().unwrap(), "--image"], &temporary);
        run.arg(coracle_fixtures::command()).arg("--command").arg(native.host_program()).args(does);
        // No containers: they are found on it.
        let output = run.env("PATH", "").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let report: Report = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let tables = &report.benches[0].findings.tables;
        assert!(!tables.is_empty());
        for table in tables {
            let ids: Vec<&str> = table.rows.iter().map(|row| &row.id[..]).collect();
            assert_eq!(ids, ["memory", "disk", "cold", "api", "process"]);
            let ratio = table.ratios.iter().find(|ratio| ratio.to == "process").unwrap();
            match &ratio.verdict {
                Verdict::Ahead { .. } => assert!(is_same, "{does:?}"),
                Verdict::Refused { why } => {
                    assert!(!is_same && why.contains("did not do the same work"), "{does:?}: {why}");
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let temporary = empty("bench-wrong");
    let silent =
        Native::build("silent", "fn main() { eprintln!(\"no\") }", &[], &[], Speaks::Nothing).unwrap();
    let silent = silent.host_program();
    let (silent, text) = (silent.to_str().unwrap(), temporary.join("text.wasm"));
    std::fs::write(&text, "no component").unwrap();
    let (text, command) = (text.to_str().unwrap(), coracle_fixtures::command().to_str().unwrap());
    let http = coracle_fixtures::http().to_str().unwrap();
    for (arguments, expected) in [
        (&["cold-start", "--image", text][..], "cannot use "),
        (&["cold-start", "--image", command, "--command", "/nowhere"], "cannot find /nowhere"),
        (
            &["cold-start", "--image", http, "--command", silent],
            "a server must answer GET / at 127.0.0.1 and the port in the environment variable PORT: it ended before it \
             answered: exit status: 0: no",
        ),
        (&["nonsense"], "no bench is called \"nonsense\"; there are cold-start,"),
        (&["compare", "/nowhere", "/nowhere"], "cannot read /nowhere"),
        (&["cold-start", "--image", "/nowhere.wasm"], "cannot find /nowhere.wasm"),
    ] {
        let output = bench(arguments, &temporary).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{arguments:?}: {error}");
    }
}
