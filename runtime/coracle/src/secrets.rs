//! What tasks get from the process they run in: values of secrets, what roles allow, and whom their TLS trusts.

use std::path::PathBuf;

use anyhow::Context as _;
use coracle_agent::{RoleSource, SecretSource};
use coracle_sandbox::TlsClient;
use coracle_server::{RoleReader, SecretReader};
use coracle_types::Region;
use futures_util::future::BoxFuture;

/// The secrets manager and the parameter store of this process.
pub(crate) struct StoreSecrets(pub(crate) SecretReader);

impl SecretSource for StoreSecrets {
    fn read(&self, region: &Region, value_from: &str) -> BoxFuture<'static, Result<String, String>> {
        // From memory: nothing to wait for.
        let value = self.0.read(region, value_from).map_err(|error| error.to_string());
        Box::pin(std::future::ready(value))
    }
}

/// The identities of this process.
pub(crate) struct StoreRoles(pub(crate) RoleReader);

impl RoleSource for StoreRoles {
    fn egress(&self, role: &str) -> BoxFuture<'static, Result<Vec<String>, String>> {
        Box::pin(std::future::ready(self.0.egress(role)))
    }
}

/// Trusts the public authorities, and those in the PEM files that were named.
pub(crate) fn tls_client(roots: &[PathBuf]) -> anyhow::Result<TlsClient> {
    let mut pem = Vec::new();
    for path in roots {
        pem.extend(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
        pem.push(b'\n');
    }
    if roots.is_empty() {
        return Ok(TlsClient::default());
    }
    TlsClient::with_extra_roots(&pem).context("--tls-root")
}
