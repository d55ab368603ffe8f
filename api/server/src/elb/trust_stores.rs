//! Trust stores: the authorities whose client certificates a listener accepts.
//!
//! AWS reads their certificates from S3. Here a bucket is a directory below the data directory's `buckets`.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Component, Path};

use coracle_protocol::elb::catalogue::limits;
use coracle_protocol::elb::listener::parse_trust_store;
use coracle_protocol::elb::load_balancer::take_name;
use coracle_protocol::elb::{ElbCode, nothing, page, take_tags};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{ElbArn, Listener, TrustStore, TrustStoreId};
use coracle_types::{Changes, Key, State};
use serde_json::Value;

use super::{find, number};
use crate::api::{Api, Caller};

/// The largest bundle of certificates, in bytes.
const BUNDLE_BYTES_MAX: u64 = 1024 * 1024;

/// Certificates of authorities.
struct Bundle {
    pem: String,
    count: u32,
}

/// Takes where the bundle is, and reads it.
fn take_bundle(api: &Api, members: &mut Members) -> Result<Bundle, ApiError> {
    let bucket = members.required_text("CaCertificatesBundleS3Bucket")?;
    let key = members.required_text("CaCertificatesBundleS3Key")?;
    let plain = |text: &str| Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain(&bucket) || !plain(&key) {
        return Err(members.invalid("CaCertificatesBundleS3Key", "bucket and key must be plain names"));
    }
    let not_found = |why: String| ApiError::from(ElbCode::CaCertificatesBundleNotFound.because(why));
    let buckets = api.buckets.as_ref().ok_or_else(|| not_found("There are no buckets here".to_owned()))?;
    let path = buckets.join(&bucket).join(&key);
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(&path)?.take(BUNDLE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let pem = read().map_err(|error| {
        not_found(format!("A bucket is a directory here: {} cannot be read: {error}", path.display()))
    })?;
    let count = pem.matches("-----BEGIN CERTIFICATE-----").count();
    if count == 0 || count != pem.matches("-----END CERTIFICATE-----").count() {
        return Err(ElbCode::InvalidCaCertificatesBundle
            .because(format_args!("{} holds no certificates in PEM", path.display()))
            .into());
    }
    Ok(Bundle { pem, count: u32::try_from(count).unwrap_or(u32::MAX) })
}

fn encode(store: &TrustStore, api: &Api) -> Value {
    Object::new()
        .with("Name", store.id.name.as_str())
        .with("TrustStoreArn", ElbArn::new(api.account(), store.id.clone()).to_string())
        .with("Status", "ACTIVE")
        .with("NumberOfCaCertificates", store.ca_count)
        .with("TotalRevokedEntries", 0)
        .into()
}

fn answer(store: &TrustStore, api: &Api) -> Value {
    Object::new().with("TrustStores", list([encode(store, api)])).into()
}

/// CreateTrustStore.
pub(super) async fn create(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let name = take_name(&mut members, "Trust store name")?;
    let tags = take_tags(&mut members)?;
    let bundle = take_bundle(api, &mut members)?;
    let id = TrustStoreId { region: caller.region.clone(), name, number: number() };
    let store = TrustStore { id, created_at: api.now(), ca_bundle: bundle.pem, ca_count: bundle.count, tags };
    api.transact(|state| {
        let here = || state.trust_stores.keys().filter(|id| id.region == caller.region);
        if here().any(|id| id.name == store.id.name) {
            return Err(ElbCode::DuplicateTrustStoreName
                .because(format_args!("A trust store with the name '{}' exists", store.id.name))
                .into());
        }
        if here().count() >= limits::TRUST_STORES {
            return Err(ElbCode::TooManyTrustStores
                .because(format_args!("There can be at most {} trust stores", limits::TRUST_STORES))
                .into());
        }
        let mut changes = Changes::new();
        changes.put(store.clone());
        Ok((changes, ()))
    })
    .await?;
    Ok(answer(&store, api))
}

/// ModifyTrustStore: other authorities.
pub(super) async fn modify(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = parse_trust_store(&members.required_text("TrustStoreArn")?)?;
    let bundle = take_bundle(api, &mut members)?;
    let (_, store) = api
        .transact(|state| {
            let store = TrustStore {
                ca_bundle: bundle.pem.clone(),
                ca_count: bundle.count,
                ..TrustStore::clone(&*find::trust_store(state, caller, &id)?)
            };
            let mut changes = Changes::new();
            changes.put(store.clone());
            Ok((changes, store))
        })
        .await?;
    Ok(answer(&store, api))
}

/// DescribeTrustStores.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let state = api.store.snapshot();
    let here =
        || state.trust_stores.values().map(|found| &found.value).filter(|one| one.id.region == caller.region);
    let mut wanted: Option<BTreeSet<TrustStoreId>> = None;
    for arn in members.texts("TrustStoreArns")?.unwrap_or_default() {
        let store = find::trust_store(&state, caller, &parse_trust_store(&arn)?)?;
        wanted.get_or_insert_default().insert(store.id.clone());
    }
    for name in members.texts("Names")?.unwrap_or_default() {
        let found = here().find(|one| one.id.name.as_str() == name);
        let found =
            found.ok_or_else(|| ElbCode::TrustStoreNotFound.because("One or more trust stores not found"))?;
        wanted.get_or_insert_default().insert(found.id.clone());
    }
    let items = here()
        .filter(|one| wanted.as_ref().is_none_or(|ids| ids.contains(&one.id)))
        .map(|one| (one.id.name.to_string(), encode(one, api)));
    page::of(&page, "TrustStores", items)
}

/// The listeners that trust a store.
fn listeners<'a>(state: &'a State, id: &'a TrustStoreId) -> impl Iterator<Item = &'a Listener> {
    state.listeners.values().map(|found| &*found.value).filter(|listener| {
        let mutual = listener.mutual_authentication.as_ref();
        mutual.and_then(|mutual| mutual.trust_store.as_ref()) == Some(id)
    })
}

/// DescribeTrustStoreAssociations.
pub(super) fn associations(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let id = parse_trust_store(&members.required_text("TrustStoreArn")?)?;
    let state = api.store.snapshot();
    find::trust_store(&state, caller, &id)?;
    let mut arns: Vec<String> = listeners(&state, &id)
        .map(|listener| ElbArn::new(api.account(), listener.id.clone()).to_string())
        .collect();
    arns.sort_unstable();
    let items = arns.into_iter().map(|arn| (arn.clone(), Object::new().with("ResourceArn", arn).into()));
    page::of(&page, "TrustStoreAssociations", items)
}

/// DeleteTrustStore.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = parse_trust_store(&members.required_text("TrustStoreArn")?)?;
    api.transact(|state| {
        find::trust_store(state, caller, &id)?;
        if listeners(state, &id).next().is_some() {
            return Err(ElbCode::TrustStoreInUse.because("The trust store is in use by a listener").into());
        }
        let mut changes = Changes::new();
        changes.delete(Key::TrustStore(id.clone()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
