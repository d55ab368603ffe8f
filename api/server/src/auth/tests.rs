//! Requests signed by AWS's own signer, checked here.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use coracle_protocol::ApiError;
use coracle_types::{AccessKey, AccountId, Change, Identity, Record, State, Tags, Timestamp, User};
use http::request::Parts;

use super::{Principal, Sealer, Session, Signature, Subject, check, identify, seal_secret};

const NOW_S: u64 = 1_795_254_385;
const NOW: Timestamp = Timestamp(1_795_254_385_000);
const URL: &str = "http://127.0.0.1:4566/some/pre%20fix?b=2&a=x%2Fy&reference=acme%2Fweb:1";

fn signed(location: SignatureLocation, body: &[u8], at_s: u64) -> Parts {
    signed_for(Some("AmazonEC2ContainerServiceV20141113.ListClusters"), location, body, at_s)
}

fn signed_for(target: Option<&str>, location: SignatureLocation, body: &[u8], at_s: u64) -> Parts {
    signed_with(Some("token"), target, location, body, at_s)
}

fn signed_with(
    token: Option<&str>,
    target: Option<&str>,
    location: SignatureLocation,
    body: &[u8],
    at_s: u64,
) -> Parts {
    let identity = Credentials::new("AKID", "secret", token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = location;
    settings.expires_in = (location == SignatureLocation::QueryParams).then(|| Duration::from_secs(60));
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("ecs")
        .time(UNIX_EPOCH + Duration::from_secs(at_s))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let mut request = http::Request::builder()
        .method("POST")
        .uri(URL)
        .header("host", "127.0.0.1:4566")
        .header("content-type", "application/x-amz-json-1.1")
        .body(())
        .unwrap();
    if let Some(target) = target {
        request.headers_mut().insert("x-amz-target", target.parse().unwrap());
    }
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new("POST", URL, headers, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request.into_parts().0
}

fn verdict(parts: &Parts, body: &[u8], now: Timestamp) -> Result<(), ApiError> {
    let keys = [("AKID".to_owned(), "secret".to_owned())];
    let claim = identify(&keys, &State::default(), &sealer(), parts, now)?;
    claim.verify(parts, body).map(|(principal, _)| assert!(matches!(principal, Principal::Root)))
}

fn sealer() -> Sealer {
    Sealer::with_key([1; 32])
}

#[test]
fn what_aws_signs_is_accepted_in_both_forms() {
    for location in [SignatureLocation::Headers, SignatureLocation::QueryParams] {
        let parts = signed(location, b"{}", NOW_S);
        assert_eq!(Signature::of(&parts).unwrap().unwrap().region, "eu-west-1");
        assert_eq!(verdict(&parts, b"{}", NOW), Ok(()), "{location:?}");
    }
}

#[test]
fn what_was_changed_is_refused() {
    for location in [SignatureLocation::Headers, SignatureLocation::QueryParams] {
        let parts = signed(location, b"{}", NOW_S);
        assert!(matches!(verdict(&parts, b"{ }", NOW), Err(ApiError::InvalidSignature(_))));
        let mut other = parts.clone();
        other
            .headers
            .insert("x-amz-target", "AmazonEC2ContainerServiceV20141113.DeleteCluster".parse().unwrap());
        assert!(matches!(verdict(&other, b"{}", NOW), Err(ApiError::InvalidSignature(_))));
        let mut other = parts.clone();
        other.uri = parts.uri.to_string().replace("a=x", "a=z").parse().unwrap();
        assert!(matches!(verdict(&other, b"{}", NOW), Err(ApiError::InvalidSignature(_))));
        let mut other = parts;
        other.method = http::Method::GET;
        assert!(matches!(verdict(&other, b"{}", NOW), Err(ApiError::InvalidSignature(_))));
    }
}

#[test]
fn what_to_do_must_be_signed() {
    for location in [SignatureLocation::Headers, SignatureLocation::QueryParams] {
        let mut parts = signed_for(None, location, b"", NOW_S);
        assert_eq!(verdict(&parts, b"", NOW), Ok(()));
        let target = "AmazonEC2ContainerServiceV20141113.ListClusters";
        parts.headers.insert("x-amz-target", target.parse().unwrap());
        assert_eq!(
            verdict(&parts, b"", NOW),
            Err(ApiError::InvalidSignature("the x-amz-target header must be signed".to_owned()))
        );
    }
}

#[test]
fn a_header_is_signed_once() {
    let mut parts = signed(SignatureLocation::Headers, b"", NOW_S);
    let header = parts.headers["authorization"].to_str().unwrap();
    let header = header.replace("SignedHeaders=", &format!("SignedHeaders={}", "content-type;".repeat(1000)));
    parts.headers.insert("authorization", header.parse().unwrap());
    assert_eq!(
        verdict(&parts, b"", NOW),
        Err(ApiError::InvalidSignature("the header \"content-type\" is signed more than once".to_owned()))
    );
}

#[test]
fn signatures_age() {
    let parts = signed(SignatureLocation::Headers, b"", NOW_S);
    let minutes = |minutes: i64| Timestamp(NOW.0 + minutes * 60_000);
    assert_eq!(verdict(&parts, b"", minutes(15)), Ok(()));
    assert_eq!(verdict(&parts, b"", minutes(-15)), Ok(()));
    for late in [minutes(16), minutes(-16)] {
        assert!(matches!(verdict(&parts, b"", late), Err(ApiError::InvalidSignature(_))));
    }
    let presigned = signed(SignatureLocation::QueryParams, b"", NOW_S);
    assert_eq!(verdict(&presigned, b"", minutes(1)), Ok(()));
    assert!(matches!(verdict(&presigned, b"", minutes(2)), Err(ApiError::InvalidSignature(_))));
}

#[test]
fn strangers_are_refused() {
    let identified = |keys: &[(String, String)], parts: &Parts| {
        identify(keys, &State::default(), &sealer(), parts, NOW).map(|_| ())
    };
    let keys = [("OTHER".to_owned(), "secret".to_owned())];
    let mut parts = signed(SignatureLocation::Headers, b"", NOW_S);
    assert_eq!(identified(&keys, &parts), Err(ApiError::UnknownAccessKey));
    parts.headers.remove("authorization");
    assert_eq!(identified(&keys, &parts), Err(ApiError::MissingAuthenticationToken));
    for broken in [
        "Basic abc",
        "AWS4-HMAC-SHA256 Credential=AKID",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=x",
    ] {
        parts.headers.insert("authorization", broken.parse().unwrap());
        assert!(matches!(Signature::of(&parts), Err(ApiError::IncompleteSignature(_))), "{broken}");
    }
    let parts = signed(SignatureLocation::Headers, b"", NOW_S);
    let signature = Signature::of(&parts).unwrap().unwrap();
    assert!(matches!(check("wrong", &signature, &parts, b"", NOW), Err(ApiError::InvalidSignature(_))));
}

#[test]
fn the_keys_of_users_are_sealed_and_can_be_switched_off() {
    let user = |id: &str| User {
        identity: Identity {
            name: "dev".parse().unwrap(),
            path: "/".to_owned(),
            id: id.to_owned(),
            created_at: NOW,
            policies: Default::default(),
            attached: Default::default(),
            tags: Tags::default(),
        },
    };
    let key = |active| AccessKey {
        id: "AKID".to_owned(),
        user: "Dev".parse().unwrap(),
        sealed_secret: seal_secret(&sealer(), "AKID", "secret"),
        active,
        created_at: NOW,
    };
    let state = |user: User, key: AccessKey| {
        let mut state = State::default();
        state.apply(&Change::Put(Record::from(user)), 1);
        state.apply(&Change::Put(Record::from(key)), 1);
        state
    };
    let who = |state: &State, parts: &Parts| {
        let claim = identify(&[], state, &sealer(), parts, NOW)?;
        claim.verify(parts, b"").map(|(principal, _)| principal.arn(AccountId::default()))
    };
    let parts = signed_with(None, Some("x"), SignatureLocation::Headers, b"", NOW_S);
    let dev = Ok("arn:aws:iam::123456789012:user/dev".to_owned());
    assert_eq!(who(&state(user("AIDA1"), key(true)), &parts), dev);
    assert_eq!(who(&state(user("AIDA1"), key(false)), &parts), Err(ApiError::UnknownAccessKey));

    // A session of the user: bound to its access key, to its end, and to the very user.
    let subject = || Subject::User { name: "dev".parse().unwrap(), id: "AIDA1".to_owned() };
    let session = |expires| {
        Session { subject: subject(), secret: "secret".to_owned(), expires }.seal(&sealer(), "AKID")
    };
    let later = Timestamp(NOW.0 + 1);
    let with_token = |token: &str| signed_with(Some(token), None, SignatureLocation::QueryParams, b"", NOW_S);
    let found = state(user("AIDA1"), key(true));
    assert_eq!(who(&found, &with_token(&session(later))), dev);
    assert_eq!(who(&found, &with_token(&session(NOW))), Err(ApiError::ExpiredToken));
    assert_eq!(who(&found, &with_token("nonsense")), Err(ApiError::UnknownAccessKey));
    let other_key =
        Session { subject: subject(), secret: "secret".to_owned(), expires: later }.seal(&sealer(), "OTHER");
    assert_eq!(who(&found, &with_token(&other_key)), Err(ApiError::UnknownAccessKey));
    assert_eq!(
        who(&state(user("AIDA2"), key(true)), &with_token(&session(later))),
        Err(ApiError::UnknownAccessKey)
    );
}
