//! Trace ids: `X-Amzn-Trace-Id` as an Application Load Balancer writes it, and W3C's `traceparent`.
//!
//! What a client brings is passed on. What is missing is begun, both from the same 128 bits, so that the
//! two name one trace.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

thread_local! {
    /// Makes ids, which have to differ and not to be secret.
    static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
}

pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longer ones are not a load balancer's, and are begun anew.
const MAX_TRACE_ID: usize = 1024;

/// Sees to it that both headers are there. `has_trace_id` and `has_traceparent` tell whether there were any
/// when the headers were scanned.
pub(crate) fn apply(headers: &mut HeaderMap, has_trace_id: bool, has_traceparent: bool) {
    let ids = Ids::new();
    let trace_id = if has_trace_id { with_self(headers, &ids) } else { None };
    headers.insert(TRACE_ID, trace_id.unwrap_or_else(|| ids.root()));
    if !(has_traceparent && is_traceparent(headers)) {
        headers.insert(TRACEPARENT, ids.traceparent());
        if has_traceparent {
            // It belongs to a trace that could not be read.
            headers.remove(TRACESTATE);
        }
    }
}

/// The ids of one request, in hexadecimal digits.
struct Ids {
    /// Eight digits of the time in seconds, 24 random ones.
    trace: [u8; 32],
    span: [u8; 16],
}

impl Ids {
    fn new() -> Self {
        // As many digits as there is time for, until 2106.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
        let random: [u32; 5] = RANDOM.with_borrow_mut(rand::Rng::random);
        let (mut trace, mut span) = ([0; 32], [0; 16]);
        write_hex(&mut trace, &[seconds, random[0], random[1], random[2]]);
        // An id of zeros is none.
        write_hex(&mut span, &[random[3], random[4] | 1]);
        Self { trace, span }
    }

    /// `Root=1-<seconds, 8 hex digits>-<24 random hex digits>`.
    fn root(&self) -> HeaderValue {
        let mut id = *b"Root=1-00000000-000000000000000000000000";
        self.write(&mut id[7..]);
        HeaderValue::from_bytes(&id).expect("hex digits are printable")
    }

    /// Writes `<seconds>-<random>`.
    fn write(&self, id: &mut [u8]) {
        id[..8].copy_from_slice(&self.trace[..8]);
        id[9..33].copy_from_slice(&self.trace[8..]);
    }

    /// `00-<seconds><random>-<random>-01`. The flag asks for the trace to be recorded, as whoever takes
    /// part in one that was begun without it would leave themselves out.
    fn traceparent(&self) -> HeaderValue {
        let mut id = *b"00-00000000000000000000000000000000-0000000000000000-01";
        id[3..35].copy_from_slice(&self.trace);
        id[36..52].copy_from_slice(&self.span);
        HeaderValue::from_bytes(&id).expect("hex digits are printable")
    }
}

/// Adds our own id to those a client sent: `Self=<ours>;` in front, in place of an earlier hop's. `None`
/// if there is nothing to add it to.
fn with_self(headers: &HeaderMap, ids: &Ids) -> Option<HeaderValue> {
    let sent = headers.get(TRACE_ID)?.to_str().ok().filter(|sent| sent.len() <= MAX_TRACE_ID)?;
    if !sent.split(';').any(|field| field.trim().starts_with("Root=")) {
        return None;
    }
    let mut value = *b"Self=1-00000000-000000000000000000000000";
    ids.write(&mut value[7..]);
    let mut value = value.to_vec();
    for field in
        sent.split(';').map(str::trim).filter(|field| !field.is_empty() && !field.starts_with("Self="))
    {
        value.push(b';');
        value.extend_from_slice(field.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
}

/// Whether there is one `traceparent` and it can be read (W3C Trace Context, 3.2).
fn is_traceparent(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes();
    let is_hex = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let is_set = |part: &[u8]| is_hex(part) && part.iter().any(|byte| *byte != b'0');
    value.len() >= 55
        && value[2] == b'-' && value[35] == b'-' && value[52] == b'-'
        && is_hex(&value[..2]) && &value[..2] != b"ff"
        && is_set(&value[3..35]) && is_set(&value[36..52]) && is_hex(&value[53..55])
        // Later versions may have more behind it.
        && (value.len() == 55 || (&value[..2] != b"00" && value[55] == b'-'))
}

/// Fills `digits` with these numbers, eight digits each. A digit at a time takes several times as long, and this is done
/// for every request.
fn write_hex(digits: &mut [u8], numbers: &[u32]) {
    for (digits, number) in digits.chunks_exact_mut(8).zip(numbers) {
        digits.copy_from_slice(&hex(*number));
    }
}

/// A number as eight hexadecimal digits, all at once: its halves are moved apart, then theirs, until there is one digit in
/// each byte.
fn hex(number: u32) -> [u8; 8] {
    let mut digits = u64::from(number);
    digits = (digits & 0xffff_0000) << 16 | digits & 0xffff;
    digits = (digits & 0xff00_0000_ff00) << 8 | digits & 0xff_0000_00ff;
    digits = (digits & 0xf0_00f0_00f0_00f0) << 4 | digits & 0xf_000f_000f_000f;
    // One in each byte that is over 9.
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let has = |name: HeaderName, headers: &HeaderMap| headers.contains_key(name);
        let (trace_id, traceparent) = (has(TRACE_ID, &headers), has(TRACEPARENT, &headers));
        apply(&mut headers, trace_id, traceparent);
        headers
    }

    const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn what_is_missing_is_begun_as_one_trace() {
        let headers = applied(&[]);
        let root = headers[TRACE_ID].to_str().unwrap().strip_prefix("Root=1-").unwrap().replace('-', "");
        let parent: Vec<&str> = headers[TRACEPARENT].to_str().unwrap().split('-').collect();
        assert_eq!((parent[0], parent[1], parent[2].len(), parent[3]), ("00", root.as_str(), 16, "01"));
        assert_ne!(headers[TRACE_ID], applied(&[])[TRACE_ID]);
    }

    #[test]
    fn numbers_are_written_as_the_formatter_writes_them() {
        for number in (0..1 << 16).map(|at: u32| at.wrapping_mul(65_537)).chain([0, u32::MAX, 0x0123_4567]) {
            assert_eq!(hex(number), format!("{number:08x}").as_bytes());
        }
        let mut digits = [0; 16];
        write_hex(&mut digits, &[0xabcd, 1]);
        assert_eq!(&digits, b"0000abcd00000001");
    }

    #[test]
    fn what_is_there_is_passed_on() {
        let headers = applied(&[("x-amzn-trace-id", ROOT), ("traceparent", PARENT), ("tracestate", "a=1")]);
        let shown = headers[TRACE_ID].to_str().unwrap();
        assert!(shown.starts_with("Self=1-") && shown.ends_with(&format!(";{ROOT}")), "{shown}");
        assert_eq!(
            (&headers[TRACEPARENT], &headers[TRACESTATE]),
            (&PARENT.parse().unwrap(), &"a=1".parse().unwrap())
        );
        let again = applied(&[("x-amzn-trace-id", "Self=1-1-2;Root=1-a-b;Sampled=1")]);
        let shown = again[TRACE_ID].to_str().unwrap();
        assert!(shown.ends_with(";Root=1-a-b;Sampled=1") && shown.matches("Self=").count() == 1, "{shown}");
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew() {
        let headers =
            applied(&[("x-amzn-trace-id", "Mine=1"), ("traceparent", "nonsense"), ("tracestate", "a=1")]);
        assert!(headers[TRACE_ID].to_str().unwrap().starts_with("Root=1-"));
        assert!(!headers.contains_key(TRACESTATE));
        assert!(is_traceparent(&headers));
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(bad));
            assert!(!is_traceparent(&headers), "{bad}");
        }
    }
}
