//! Request bodies that come compressed: SDKs compress large ones where a service's model allows it, or when
//! they are told to.

use std::io::Read as _;

use bytes::Bytes;
use coracle_protocol::ApiError;
use flate2::read::MultiGzDecoder;
use http::header::CONTENT_ENCODING;
use http::request::Parts;

/// The body as it was before it was encoded. What a small body can unfold to is bounded by `bytes_max`.
///
/// # Errors
/// When it is encoded in another way than gzip, is not what it says, or is too large.
pub(crate) fn decoded(parts: &Parts, body: Bytes, bytes_max: usize) -> Result<Bytes, ApiError> {
    let encoding = parts.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    match encoding {
        None | Some(b"" | b"identity") => Ok(body),
        Some(b"gzip") => inflated(&body, bytes_max),
        Some(other) => Err(ApiError::Serialization(format!(
            "the request body is encoded as {:?}; send it as it is, or as gzip",
            String::from_utf8_lossy(other).chars().take(40).collect::<String>()
        ))),
    }
}

fn inflated(body: &[u8], bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut plain = Vec::new();
    // One byte more than allowed tells that there are too many.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(|error| ApiError::Serialization(format!("the request body is not gzip: {error}")))?;
    if plain.len() > bytes_max { Err(ApiError::TooLarge { bytes_max }) } else { Ok(plain.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn parts(encoding: &str) -> Parts {
        http::Request::builder().header(CONTENT_ENCODING, encoding).body(()).unwrap().into_parts().0
    }

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn gzip_is_undone() {
        let plain = vec![b'x'; 20_000];
        assert_eq!(decoded(&parts("gzip"), gzip(&plain), 20_000), Ok(plain.into()));
        let as_it_is = Bytes::from_static(b"{}");
        assert_eq!(decoded(&parts("identity"), as_it_is.clone(), 10), Ok(as_it_is));
    }

    #[test]
    fn a_small_body_cannot_unfold_without_bound() {
        let bomb = gzip(&vec![0; 10_000_000]);
        assert!(bomb.len() < 20_000);
        assert_eq!(decoded(&parts("gzip"), bomb, 100_000), Err(ApiError::TooLarge { bytes_max: 100_000 }));
    }

    #[test]
    fn others_are_refused() {
        for (encoding, body) in [("br", gzip(b"x")), ("gzip", Bytes::from_static(b"{}"))] {
            let refused = decoded(&parts(encoding), body, 100);
            assert!(matches!(refused, Err(ApiError::Serialization(_))), "{encoding}");
        }
    }
}
