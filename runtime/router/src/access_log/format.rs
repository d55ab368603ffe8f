//! Lines of the access log. Pure.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Version};
use serde_json::json;

use super::{AccessLogFormat, Entry};

/// Writes an entry as one line.
pub(super) fn line(entry: &Entry, format: AccessLogFormat) -> String {
    let mut line = match format {
        AccessLogFormat::Json => json_line(entry),
        AccessLogFormat::LoadBalancer => load_balancer_line(entry),
    };
    line.push('\n');
    line
}

fn json_line(entry: &Entry) -> String {
    let outcome = &entry.outcome;
    let text = |value: &Option<HeaderValue>| {
        value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let object = json!({
        "time": timestamp(ended(entry)),
        "client": entry.client.to_string(),
        "method": entry.method.as_str(),
        "host": text(&entry.host),
        "path": entry.uri.path(),
        "query": entry.uri.query(),
        "protocol": protocol(entry.version),
        "status": outcome.status,
        "targetStatus": outcome.target_status,
        "error": outcome.error,
        "receivedBytes": entry.received,
        "sentBytes": outcome.sent,
        "requestSeconds": seconds(outcome.until_called),
        "targetSeconds": seconds(outcome.until_answered),
        "totalSeconds": outcome.total.as_secs_f64(),
        "userAgent": text(&entry.user_agent),
        "traceId": text(&entry.trace_id),
        "tlsVersion": text(&entry.tls.as_ref().map(|(version, _)| version.clone())),
        "loadBalancer": entry.load_balancer.as_deref(),
        "backend": entry.backend.as_deref(),
        "target": entry.target.as_deref(),
    });
    // What is not known is left out.
    let serde_json::Value::Object(mut object) = object else { return object.to_string() };
    object.retain(|_, value| !value.is_null());
    serde_json::Value::Object(object).to_string()
}

/// The fields AWS documents for "Access logs for your Application Load Balancer", in their order; a hyphen
/// stands for what does not apply.
fn load_balancer_line(entry: &Entry) -> String {
    let outcome = &entry.outcome;
    let or_hyphen = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let seconds = |time: Option<Duration>| {
        time.map_or_else(|| "-1".to_owned(), |time| format!("{:.3}", time.as_secs_f64()))
    };
    let until = |time: Option<Duration>| time.unwrap_or_default();
    let after_answer = outcome
        .until_answered
        .map(|answered| outcome.total.saturating_sub(until(outcome.until_called) + answered));
    let kind = match (entry.is_secure, entry.version, outcome.status) {
        (true, _, Some(101)) => "wss",
        (false, _, Some(101)) => "ws",
        (true, Version::HTTP_2, _) => "h2",
        (true, ..) => "https",
        _ => "http",
    };
    let scheme = if entry.is_secure { "https" } else { "http" };
    let host = header(entry.host.as_ref());
    let path = entry.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = format!("{} {scheme}://{host}{path} {}", entry.method, protocol(entry.version));
    let (tls_version, cipher) = match &entry.tls {
        Some((version, cipher)) => (header(Some(version)), header(Some(cipher))),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let load_balancer = entry
        .load_balancer
        .as_deref()
        .map(|arn| arn.split_once("loadbalancer/").map_or(arn, |(_, name)| name).to_owned());
    let target = or_hyphen(entry.target.as_deref().map(str::to_owned));
    let status = |status: Option<u16>| or_hyphen(status.map(|status| status.to_string()));
    let action = match (outcome.error, &entry.target) {
        (_, Some(_)) => "forward",
        (Some(_), None) => "-",
        (None, None) => "fixed-response",
    };
    let started = timestamp(entry.started);
    let mut line = String::with_capacity(512);
    // Writing to a string does not fail.
    let _ = write!(
        line,
        "{kind} {ended} {lb} {client} {target} {called} {answered} {rest} {status} {target_status} \
         {received} {sent} \"{request}\" \"{agent}\" {cipher} {tls_version} {backend} \"{trace}\" \"{host}\" \
         \"-\" - {started} \"{action}\" \"-\" \"{error}\" \"{target}\" \"{target_status}\" \"-\" \"-\"",
        ended = timestamp(ended(entry)),
        lb = or_hyphen(load_balancer),
        client = entry.client,
        called = seconds(outcome.until_called),
        answered = seconds(outcome.until_answered),
        rest = seconds(after_answer),
        // What an Application Load Balancer writes when the client has left.
        status = outcome.status.unwrap_or(460),
        target_status = status(outcome.target_status),
        received = entry.received.unwrap_or(0),
        sent = outcome.sent,
        request = quoted(&request),
        agent = header(entry.user_agent.as_ref()),
        backend = or_hyphen(entry.backend.as_deref().map(str::to_owned)),
        trace = header(entry.trace_id.as_ref()),
        error = outcome.error.unwrap_or("-"),
    );
    line
}

fn ended(entry: &Entry) -> SystemTime {
    entry.started + entry.outcome.total
}

fn header(value: Option<&HeaderValue>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| quoted(&String::from_utf8_lossy(value.as_bytes())))
}

/// What a client has sent, as it may stand between quotes: nothing in it can end the field or the line.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                let _ = write!(quoted, "\\x{:02X}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// `2026-11-26T15:27:14.186641Z`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The date that many days after 1 January 1970. Years are counted from 1 March, so that a leap day is the
/// last of its year; 400 years have 146,097 days.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::Outcome;
    use super::*;

    fn entry() -> Entry {
        let request = Request::post("/a?b=\u{e9}")
            .header("host", "shop.example.com")
            .header("user-agent", "curl \"8\"")
            .header("content-length", "17")
            .body(())
            .unwrap();
        let mut entry = Entry::of(&request, "192.0.2.7:2817".parse().unwrap(), false);
        entry.started = UNIX_EPOCH + Duration::from_micros(1_795_706_834_186_641);
        entry.target = Some("10.0.0.1:80".into());
        entry.load_balancer =
            Some("arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/my/50dc".into());
        entry.trace_id = Some(HeaderValue::from_static("Root=1-a-b"));
        entry.outcome = Outcome {
            status: Some(200),
            target_status: Some(200),
            error: None,
            until_called: Some(Duration::from_millis(1)),
            until_answered: Some(Duration::from_millis(20)),
            total: Duration::from_millis(24),
            sent: 366,
        };
        entry
    }

    #[test]
    fn lines_are_those_of_a_load_balancer() {
        let line = line(&entry(), AccessLogFormat::LoadBalancer);
        let expected = "http 2026-11-26T15:27:14.210641Z app/my/50dc 192.0.2.7:2817 10.0.0.1:80 0.001 0.020 0.003 200 200 17 366 \
            \"POST http://shop.example.com/a?b=\u{e9} HTTP/1.1\" \"curl \\\"8\\\"\" - - - \"Root=1-a-b\" \
            \"shop.example.com\" \"-\" - 2026-11-26T15:27:14.186641Z \"forward\" \"-\" \"-\" \"10.0.0.1:80\" \"200\" \"-\" \"-\"\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn json_has_what_is_known() {
        let line = line(&entry(), AccessLogFormat::Json);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&object["status"], &object["path"], &object["sentBytes"]),
            (&200.into(), &"/a".into(), &366.into())
        );
        assert_eq!(object["time"], "2026-11-26T15:27:14.210641Z");
        assert!(object.get("error").is_none() && line.ends_with("}\n"), "{line}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
    }
}
