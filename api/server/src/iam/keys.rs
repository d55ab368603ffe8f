//! Access keys of users.

use coracle_protocol::object::Object;
use coracle_protocol::{ApiError, Members, iam as wire};
use coracle_types::{AccessKey, Changes, IamName, Identity, Key, State, Tags, Timestamp, User};
use rand::Rng as _;
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::Value;

use super::{name, nothing, page};
use crate::api::{Api, Caller};
use crate::auth::{Principal, managed, seal_secret};

/// IAM's quota of access keys of one user.
const KEYS_MAX: usize = 2;

/// The user and key that are made when signatures are required and nobody has a key yet.
#[derive(Clone, Debug)]
pub struct NewAdmin {
    /// `AKIA…`
    pub access_key: String,
    /// Shown once; only its sealed form is kept.
    pub secret: String,
}

impl Api {
    /// Makes the user `admin`, who may do everything, with an access key, unless there are users already.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn ensure_admin(&self) -> Result<Option<NewAdmin>, ApiError> {
        let (access_key, secret) = (new_id("AKIA"), new_secret());
        let (_, made) = self
            .transact(|state| {
                let mut changes = Changes::new();
                if !state.users.is_empty() {
                    return Ok((changes, false));
                }
                let name: IamName = "admin".parse().map_err(|error| ApiError::Server(format!("{error}")))?;
                changes.put(User {
                    identity: Identity {
                        name: name.clone(),
                        path: "/".to_owned(),
                        id: new_id("AIDA"),
                        created_at: self.now(),
                        policies: Default::default(),
                        attached: [managed::arn("AdministratorAccess")].into(),
                        tags: Tags::default(),
                    },
                });
                changes.put(key(self, &access_key, &secret, name, self.now()));
                Ok((changes, true))
            })
            .await?;
        Ok(made.then_some(NewAdmin { access_key, secret }))
    }
}

fn key(api: &Api, id: &str, secret: &str, user: IamName, created_at: Timestamp) -> AccessKey {
    AccessKey {
        id: id.to_owned(),
        user,
        sealed_secret: seal_secret(&api.sealer, id, secret),
        active: true,
        created_at,
    }
}

/// An id as IAM makes them: four letters that say of what, and 16 of an alphabet of 32.
pub(crate) fn new_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut rng = rand::rng();
    let letters = (0..16).map(|_| char::from(ALPHABET[usize::from(rng.random::<u8>() % 32)]));
    prefix.chars().chain(letters).collect()
}

/// The secret half of a key: 40 characters, 238 bits.
pub(crate) fn new_secret() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 40)
}

/// The user an action is about: the named one, else the caller.
pub(super) fn user_name(caller: &Caller, members: &mut Members) -> Result<IamName, ApiError> {
    if members.peek("UserName").is_some() {
        return name(members, "UserName");
    }
    match &caller.principal {
        Principal::User(user) => Ok(user.identity.name.clone()),
        _ => Err(ApiError::Client("Must specify userName when calling with non-User credentials".to_owned())),
    }
}

fn keys_of<'a>(state: &'a State, user: &IamName) -> impl Iterator<Item = &'a AccessKey> {
    let user = user.key();
    state.access_keys.values().map(|found| &*found.value).filter(move |key| key.user.key() == user)
}

pub(super) fn has_keys(state: &State, user: &IamName) -> bool {
    keys_of(state, user).next().is_some()
}

pub(super) async fn create(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let user = user_name(caller, &mut members)?;
    let (id, secret) = (new_id("AKIA"), new_secret());
    let (_, made) = api
        .transact(|state| {
            let found = super::users::find(state, &user)?;
            if keys_of(state, &user).count() >= KEYS_MAX {
                return Err(ApiError::LimitExceeded(format!(
                    "Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}"
                )));
            }
            let made = key(api, &id, &secret, found.identity.name.clone(), api.now());
            let mut changes = Changes::new();
            // Two at once must not both be the last one that is allowed.
            changes.put(found);
            changes.put(made.clone());
            Ok((changes, made))
        })
        .await?;
    Ok(Object::new().with("AccessKey", wire::access_key(&made, Some(&secret))).into())
}

pub(super) fn list(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let user = user_name(caller, &mut members)?;
    let state = api.store.snapshot();
    super::users::find(&state, &user)?;
    let keys = keys_of(&state, &user).map(|key| (key.id.clone(), wire::access_key(key, None)));
    page(&mut members, "AccessKeys", "AccessKeyMetadata", keys)
}

/// The key an action names, if it is this user's.
fn find(state: &State, user: &IamName, id: &str) -> Result<AccessKey, ApiError> {
    let found = keys_of(state, user).find(|key| key.id == id);
    found.cloned().ok_or_else(|| {
        let id: String = id.chars().take(128).collect();
        ApiError::NoSuchEntity(format!("The Access Key with id {id} cannot be found."))
    })
}

pub(super) async fn update(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let user = user_name(caller, &mut members)?;
    let id = members.required_text("AccessKeyId")?;
    let active = members.required_text("Status")? == "Active";
    api.transact(|state| {
        let mut changes = Changes::new();
        changes.put(AccessKey { active, ..find(state, &user, &id)? });
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let user = user_name(caller, &mut members)?;
    let id = members.required_text("AccessKeyId")?;
    api.transact(|state| {
        let mut changes = Changes::new();
        changes.delete(Key::AccessKey(find(state, &user, &id)?.id));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
