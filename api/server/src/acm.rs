//! Certificates for HTTPS listeners: they are imported. Issuing them needs a domain and an authority.

use std::sync::Arc;

use coracle_protocol::acm::{self as wire, ImportCertificate, take_id, take_page};
use coracle_protocol::elb::{merge_tags, tags};
use coracle_protocol::members::Refusal;
use coracle_protocol::object::Object;
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{Certificate, CertificateId, ElbArn, SealedKey};
use coracle_types::{Changes, Key, State, Tags};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};
use crate::x509;

/// At most this many certificates in a region (ACM's quota).
const CERTIFICATES_MAX: usize = 2500;

/// Answers one action.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    mut body: Value,
) -> Result<Value, ApiError> {
    let shape = wire::input(operation).ok_or_else(|| unknown_operation(Service::Acm, operation))?;
    shape.conform(&mut body, Refusal::Validation)?;
    let mut members = Members::of_body(body, Refusal::Validation)?;
    match operation {
        "ImportCertificate" => import(api, caller, ImportCertificate::decode(members)?).await,
        "DescribeCertificate" => {
            let state = api.store.snapshot();
            let found = find(&state, api, caller, &take_id(&mut members)?)?;
            Ok(wire::describe(&found, api.account(), api.now(), users(&state, api, &found.id)))
        }
        "GetCertificate" => {
            let found = find(&api.store.snapshot(), api, caller, &take_id(&mut members)?)?;
            let answer = Object::new().with("Certificate", found.certificate.as_str());
            Ok(answer.maybe("CertificateChain", found.chain.as_deref()).into())
        }
        "ListCertificates" => list(api, caller, &mut members),
        "DeleteCertificate" => delete(api, caller, &take_id(&mut members)?).await,
        "AddTagsToCertificate" => {
            let id = take_id(&mut members)?;
            let pairs = members.pairs("Tags", "Key", "Value")?.unwrap_or_default();
            edit(api, caller, &id, |tags| merge_tags(tags, pairs.clone())).await
        }
        "RemoveTagsFromCertificate" => {
            let id = take_id(&mut members)?;
            let pairs = members.pairs("Tags", "Key", "Value")?.unwrap_or_default();
            edit(api, caller, &id, |tags| {
                pairs.iter().for_each(|(key, _)| tags.remove(key));
                Ok(())
            })
            .await
        }
        "ListTagsForCertificate" => {
            let found = find(&api.store.snapshot(), api, caller, &take_id(&mut members)?)?;
            Ok(json!({"Tags": tags(&found.tags)}))
        }
        unknown => Err(unknown_operation(Service::Acm, unknown)),
    }
}

fn find(state: &State, api: &Api, caller: &Caller, id: &CertificateId) -> Result<Arc<Certificate>, ApiError> {
    let found = state.certificates.get(id).filter(|_| id.region == caller.region);
    found.map(|found| Arc::clone(&found.value)).ok_or_else(|| {
        ApiError::ResourceNotFound(format!("Could not find certificate {}.", id.arn(api.account())))
    })
}

/// The ARNs of the load balancers that use a certificate.
fn users(state: &State, api: &Api, id: &CertificateId) -> Vec<String> {
    let listeners = state.listeners.values().map(|found| &found.value);
    let using = listeners.filter(|listener| listener.certificates.contains(id));
    let mut arns: Vec<String> =
        using.map(|one| ElbArn::new(api.account(), one.id.load_balancer.clone()).to_string()).collect();
    arns.dedup();
    arns
}

/// What a private key is sealed for.
#[must_use]
pub fn context(id: &CertificateId) -> String {
    format!("certificate/{}/{}", id.region, id.uuid)
}

async fn import(api: &Api, caller: &Caller, request: ImportCertificate) -> Result<Value, ApiError> {
    let said = check(&request)?;
    let id = request.id.clone().unwrap_or_else(|| CertificateId {
        region: caller.region.clone(),
        uuid: uuid::Uuid::new_v4().to_string(),
    });
    let sealed = SealedKey(api.sealer.seal(&context(&id), request.private_key.as_bytes()));
    api.transact(|state| {
        let kept = match &request.id {
            Some(id) => find(state, api, caller, id)?.tags.clone(),
            None => request.tags.clone(),
        };
        let here = state.certificates.keys().filter(|id| id.region == caller.region).count();
        if request.id.is_none() && here >= CERTIFICATES_MAX {
            return Err(ApiError::LimitExceeded(format!(
                "There can be at most {CERTIFICATES_MAX} certificates."
            )));
        }
        let mut changes = Changes::new();
        changes.put(Certificate {
            id: id.clone(),
            certificate: request.certificate.clone(),
            chain: request.chain.clone(),
            private_key: sealed.clone(),
            names: said.names.clone(),
            serial: said.serial.clone(),
            subject: said.subject.clone(),
            issuer: said.issuer.clone(),
            key_algorithm: said.key_algorithm.clone(),
            signature_algorithm: said.signature_algorithm.clone(),
            not_before: said.not_before,
            not_after: said.not_after,
            imported_at: api.now(),
            tags: kept,
        });
        Ok((changes, ()))
    })
    .await?;
    Ok(json!({"CertificateArn": id.arn(api.account())}))
}

/// Whether certificate, chain and key can be read and belong together.
fn check(request: &ImportCertificate) -> Result<x509::Said, ApiError> {
    let refused = |what: &str, why: String| ApiError::Named {
        code: "ValidationException",
        message: format!("The {what} cannot be used: {why}"),
    };
    let said = x509::read(&request.certificate).map_err(|why| refused("certificate", why))?;
    let mut chain = Vec::new();
    for (what, pem) in
        [("certificate", Some(&request.certificate)), ("certificate chain", request.chain.as_ref())]
    {
        let Some(pem) = pem else { continue };
        for one in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            chain.push(one.map_err(|error| refused(what, error.to_string()))?);
        }
    }
    let key = PrivateKeyDer::from_pem_slice(request.private_key.as_bytes())
        .map_err(|error| refused("private key", format!("it must be PEM without a passphrase: {error}")))?;
    let key = any_supported_type(&key).map_err(|error| refused("private key", error.to_string()))?;
    CertifiedKey::new(chain, key)
        .keys_match()
        .map_err(|_| refused("private key", "it is not the one of the certificate".to_owned()))?;
    Ok(said)
}

fn list(api: &Api, caller: &Caller, members: &mut Members) -> Result<Value, ApiError> {
    let page = take_page(members)?;
    let statuses = members.texts("CertificateStatuses")?.unwrap_or_default();
    let state = api.store.snapshot();
    let now = api.now();
    let here =
        state.certificates.values().map(|found| &found.value).filter(|one| one.id.region == caller.region);
    let items = here.map(|one| {
        let in_use = !users(&state, api, &one.id).is_empty();
        (one.id.uuid.clone(), wire::summary(one, api.account(), now, in_use))
    });
    let wanted = items.filter(|(_, shown)| {
        statuses.is_empty() || statuses.iter().any(|status| shown["Status"] == status.as_str())
    });
    let page =
        page.of("certificates", wanted, |(key, _)| key.clone(), String::clone, |text| Some(text.to_owned()))?;
    let items = page.items.into_iter().map(|(_, value)| value);
    let answer = Object::new().with("CertificateSummaryList", coracle_protocol::object::list(items));
    Ok(answer.maybe("NextToken", page.next).into())
}

async fn delete(api: &Api, caller: &Caller, id: &CertificateId) -> Result<Value, ApiError> {
    let _turn = api.load_balancing.lock().await;
    api.transact(|state| {
        find(state, api, caller, id)?;
        if !users(state, api, id).is_empty() {
            return Err(ApiError::Named {
                code: "ResourceInUseException",
                message: format!("Certificate {} is in use.", id.arn(api.account())),
            });
        }
        let mut changes = Changes::new();
        changes.delete(Key::Certificate(id.clone()));
        Ok((changes, ()))
    })
    .await?;
    Ok(json!({}))
}

async fn edit(
    api: &Api,
    caller: &Caller,
    id: &CertificateId,
    change: impl Fn(&mut Tags) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    api.transact(|state| {
        let mut certificate = Certificate::clone(&*find(state, api, caller, id)?);
        change(&mut certificate.tags)?;
        let mut changes = Changes::new();
        changes.put(certificate);
        Ok((changes, ()))
    })
    .await?;
    Ok(json!({}))
}
