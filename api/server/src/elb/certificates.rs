//! The certificates of HTTPS listeners, beside the default one.

use coracle_protocol::elb::catalogue::limits;
use coracle_protocol::elb::listener::{certificate, take_certificates};
use coracle_protocol::elb::{ElbCode, nothing, page};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::Changes;
use coracle_types::elb::{Listener, ListenerProtocol};
use serde_json::Value;

use super::{find, listeners};
use crate::api::{Api, Caller};

/// AddListenerCertificates. One the listener has already stays where it is.
pub(super) async fn add(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = listeners::take(&mut members)?;
    let new = take_certificates(&mut members)?;
    if new.is_empty() {
        return Err(members.missing("Certificates"));
    }
    api.transact(|state| {
        let mut listener = Listener::clone(&*find::listener(state, caller, &id)?);
        if listener.protocol != ListenerProtocol::Https {
            return Err(ApiError::Client("A certificate cannot be specified for HTTP listeners".to_owned()));
        }
        find::certificates(state, api, caller, &new)?;
        for certificate in &new {
            if !listener.certificates.contains(certificate) {
                listener.certificates.push(certificate.clone());
            }
        }
        if listener.certificates.len() > limits::CERTIFICATES + 1 {
            return Err(ElbCode::TooManyCertificates
                .because(format_args!(
                    "A listener can have at most {} certificates beside its default one",
                    limits::CERTIFICATES
                ))
                .into());
        }
        let mut changes = Changes::new();
        changes.put(listener);
        Ok((changes, ()))
    })
    .await?;
    let added = new.iter().map(|id| certificate(id, api.account(), Some(false)));
    Ok(Object::new().with("Certificates", list(added)).into())
}

/// RemoveListenerCertificates. The default one can only be replaced.
pub(super) async fn remove(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = listeners::take(&mut members)?;
    let gone = take_certificates(&mut members)?;
    if gone.is_empty() {
        return Err(members.missing("Certificates"));
    }
    api.transact(|state| {
        let mut listener = Listener::clone(&*find::listener(state, caller, &id)?);
        if listener.certificates.first().is_some_and(|default| gone.contains(default)) {
            return Err(ElbCode::OperationNotPermitted
                .because(
                    "The default certificate of a listener cannot be removed; ModifyListener replaces it",
                )
                .into());
        }
        listener.certificates.retain(|certificate| !gone.contains(certificate));
        let mut changes = Changes::new();
        changes.put(listener);
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// DescribeListenerCertificates.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let id = listeners::take(&mut members)?;
    let listener = find::listener(&api.store.snapshot(), caller, &id)?;
    let all = listener
        .certificates
        .iter()
        .enumerate()
        .map(|(index, id)| (format!("{index:03}"), certificate(id, api.account(), Some(index == 0))));
    page::of(&page, "Certificates", all)
}
