//! Cookies that keep a client on the target, or the target group, it got first. Pure.
//!
//! A cookie says whom it means by a keyed hash of the target's name, and until when; a keyed hash over
//! both makes sure that it was this router, or one with the same key, that has said so. A client learns
//! nothing from it, and can't choose a target. The key outlives restarts, and so do the cookies.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, header};

/// What stands before the values of our cookies.
const LOAD_BALANCER: &str = "AWSALB";
const LOAD_BALANCER_CORS: &str = "AWSALBCORS";
const APPLICATION: &str = "AWSALBAPP-0";
const TARGET_GROUP: &str = "AWSALBTG";
const TARGET_GROUP_CORS: &str = "AWSALBTGCORS";

/// Expiry, fingerprint and signature.
const BYTES: usize = 8 + 8 + 16;

/// A cookie of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// Of a target, by the load balancer.
    LoadBalancer,
    /// Of a target, beside a cookie of the application.
    Application,
    /// Of a target group.
    TargetGroup,
}

impl Cookie {
    fn name(self) -> &'static str {
        match self {
            Self::LoadBalancer => LOAD_BALANCER,
            Self::Application => APPLICATION,
            Self::TargetGroup => TARGET_GROUP,
        }
    }

    /// The name of the copy that browsers send with requests from other sites.
    fn cors_name(self) -> Option<&'static str> {
        match self {
            Self::LoadBalancer => Some(LOAD_BALANCER_CORS),
            Self::Application => None,
            Self::TargetGroup => Some(TARGET_GROUP_CORS),
        }
    }
}

/// Whom a cookie means. Two of different names differ, in all likelihood.
pub(crate) type Fingerprint = u64;

/// The key that signs cookies. Routers that share it understand each other's.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieKey([u8; 32]);

impl CookieKey {
    /// A key from 32 random bytes that are kept secret.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of a target group, or of one of its targets.
    pub(crate) fn fingerprint(&self, group: &str, target: &str) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in ["fingerprint", group, target] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let hash = *hasher.finalize().as_bytes();
        Fingerprint::from_le_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
    }

    /// Adds the cookie, and the copy for other sites, to a response.
    pub(crate) fn set(
        &self,
        headers: &mut HeaderMap,
        cookie: Cookie,
        whom: Fingerprint,
        duration: Duration,
        now: SystemTime,
    ) {
        let value = self.value(cookie, whom, seconds(now).saturating_add(duration.as_secs()));
        let max_age = duration.as_secs();
        let mut append = |name: &str, attributes: &str| {
            let text = format!("{name}={value}; Max-Age={max_age}; Path=/{attributes}");
            let text = HeaderValue::try_from(text).expect("hex digits and attributes are printable");
            headers.append(header::SET_COOKIE, text);
        };
        append(cookie.name(), "");
        if let Some(name) = cookie.cors_name() {
            append(name, "; SameSite=None; Secure");
        }
    }

    /// Whom the request's cookie means, if it has one that is ours and not over.
    pub(crate) fn read(&self, headers: &HeaderMap, cookie: Cookie, now: SystemTime) -> Option<Fingerprint> {
        let read = |name: &str| self.check(cookie, find(headers, name)?, now);
        read(cookie.name()).or_else(|| read(cookie.cors_name()?))
    }

    fn value(&self, cookie: Cookie, whom: Fingerprint, expires: u64) -> String {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&expires.to_be_bytes());
        bytes[8..16].copy_from_slice(&whom.to_be_bytes());
        let signature = self.signature(cookie, &bytes[..16]);
        bytes[16..].copy_from_slice(&signature);
        let mut value = String::with_capacity(2 * BYTES);
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                value.push(char::from_digit(u32::from(digit), 16).expect("four bits are a hex digit"));
            }
        }
        value
    }

    fn check(&self, cookie: Cookie, value: &[u8], now: SystemTime) -> Option<Fingerprint> {
        if value.len() != 2 * BYTES {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (byte, digits) in bytes.iter_mut().zip(value.chunks_exact(2)) {
            let digit = |index: usize| char::from(digits[index]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        let (said, signature) = bytes.split_at(16);
        // Compared without telling by the time it takes where the first difference is.
        let differs =
            self.signature(cookie, said).iter().zip(signature).fold(0, |differs, (a, b)| differs | (a ^ b));
        let (expires, whom) = said.split_at(8);
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        (differs == 0 && number(expires)? > seconds(now)).then(|| number(whom)).flatten()
    }

    fn signature(&self, cookie: Cookie, said: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(cookie.name().as_bytes()).update(said);
        *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}

/// A random key: cookies are forgotten with the process.
impl Default for CookieKey {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(…)")
    }
}

/// The value of a request's cookie.
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Whether a response sets the cookie of this name.
pub(crate) fn is_set(headers: &HeaderMap, name: &str) -> bool {
    let sets = |line: &HeaderValue| {
        let rest = line.as_bytes().trim_ascii_start().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    };
    headers.get_all(header::SET_COOKIE).iter().any(sets)
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn cookies(lines: &[&'static str]) -> HeaderMap {
        HeaderMap::from_iter(lines.iter().map(|line| (header::COOKIE, HeaderValue::from_static(line))))
    }

    /// A request with what a response has set.
    fn sent_back(response: &HeaderMap) -> HeaderMap {
        let pairs: Vec<&str> = response
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|line| line.to_str().unwrap().split(';').next().unwrap())
            .collect();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap())])
    }

    #[test]
    fn cookies_come_back_until_they_are_over() {
        let (key, now) = (CookieKey::new([7; 32]), SystemTime::now());
        for cookie in [Cookie::LoadBalancer, Cookie::Application, Cookie::TargetGroup] {
            let whom = key.fingerprint("group", "192.0.2.1:80");
            let mut response = HeaderMap::new();
            key.set(&mut response, cookie, whom, HOUR, now);
            let request = sent_back(&response);
            let after_restart = CookieKey::new([7; 32]);
            assert_eq!(after_restart.read(&request, cookie, now + HOUR / 2), Some(whom));
            assert_eq!(key.read(&request, cookie, now + HOUR), None);
            assert_eq!(CookieKey::new([8; 32]).read(&request, cookie, now), None);
        }
    }

    #[test]
    fn the_copy_for_other_sites_counts_too() {
        let (key, now) = (CookieKey::default(), SystemTime::now());
        let mut response = HeaderMap::new();
        key.set(&mut response, Cookie::LoadBalancer, 5, HOUR, now);
        let lines: Vec<_> = response.get_all(header::SET_COOKIE).iter().collect();
        assert!(lines[0].as_bytes().ends_with(b"; Max-Age=3600; Path=/"));
        assert!(lines[1].as_bytes().ends_with(b"; SameSite=None; Secure"));
        response.remove(header::SET_COOKIE);
        let mut copy = HeaderMap::new();
        key.set(&mut copy, Cookie::LoadBalancer, 5, HOUR, now);
        let copy = copy.get_all(header::SET_COOKIE).iter().nth(1).unwrap().to_str().unwrap().to_owned();
        let request = HeaderMap::from_iter([(
            header::COOKIE,
            HeaderValue::try_from(copy.split(';').next().unwrap()).unwrap(),
        )]);
        assert_eq!(key.read(&request, Cookie::LoadBalancer, now), Some(5));
    }

    #[test]
    fn what_is_not_ours_means_nobody() {
        let (key, now) = (CookieKey::new([7; 32]), SystemTime::now());
        let value = key.value(Cookie::LoadBalancer, 5, seconds(now) + 60);
        let read = |text: String| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(text).unwrap())]);
            key.read(&headers, Cookie::LoadBalancer, now)
        };
        assert_eq!(read(format!("a=b; AWSALB={value}")), Some(5));
        assert_eq!(read(format!("XAWSALB={value}")), None);
        assert_eq!(read("AWSALB=".to_owned()), None);
        for at in 0..value.len() {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(read(format!("AWSALB={changed}")), None, "{at}");
        }
        let of_group = key.value(Cookie::TargetGroup, 5, seconds(now) + 60);
        assert_eq!(read(format!("AWSALB={of_group}")), None, "one kind is not the other");
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let headers = cookies(&["session=1; other=2", "late=3"]);
        assert_eq!(find(&headers, "session"), Some(&b"1"[..]));
        assert_eq!(find(&headers, "late"), Some(&b"3"[..]));
        assert_eq!(find(&headers, "sess"), None);
        let mut response = HeaderMap::new();
        response.append(header::SET_COOKIE, HeaderValue::from_static("session=1; Path=/"));
        assert!(is_set(&response, "session") && !is_set(&response, "sess"));
    }

    #[test]
    fn fingerprints_keep_names_apart() {
        let key = CookieKey::new([7; 32]);
        assert_ne!(key.fingerprint("ab", "c"), key.fingerprint("a", "bc"));
        assert!(!format!("{key:?}").contains('7'));
    }
}
