//! Images that are files: a component named by its path is put into the registry, and the task definition
//! names it by its digest, so that another component is another task definition.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use coracle_registry::{ImageReference, digest_file};
use serde_json::Value;

use super::manifest::{Item, Kind};
use super::show::Printer;
use crate::client::ApiClient;
use crate::images::push_bytes;

/// A component on this machine, and what the registry is to call it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LocalImage {
    pub(super) path: PathBuf,
    /// `FAMILY/CONTAINER`.
    pub(super) name: String,
    /// `sha256:…`
    pub(super) digest: String,
    pub(super) bytes: u64,
    /// Whether the registry has it already.
    pub(super) is_there: bool,
}

/// Whether an `image` is a path on this machine and not a name in a registry, or a file of the server's.
pub(crate) fn is_local(image: &str) -> bool {
    let is_path = ["./", "../", "/"].iter().any(|start| image.starts_with(start));
    is_path || (!image.contains("://") && Path::new(image).extension().is_some_and(|end| end == "wasm"))
}

/// Finds the images that are paths, and puts the names they will have in their place.
pub(super) async fn find(items: &mut [Item]) -> anyhow::Result<Vec<LocalImage>> {
    let mut found: Vec<LocalImage> = Vec::new();
    for item in items.iter_mut().filter(|item| item.kind == Kind::TaskDefinition) {
        let containers = item.body.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let place = item.place.within(&format!("containerDefinitions[{index}].image"));
            let Some(image) = container["image"].as_str().filter(|image| is_local(image)) else { continue };
            let path = item.base.join(image);
            let name = format!("{}/{}", item.name, container["name"].as_str().unwrap_or_default());
            let local = look_at(path, &name).await.with_context(|| place.to_string())?;
            container["image"] = format!("{}@{}", local.name, local.digest).into();
            if !found.contains(&local) {
                found.push(local);
            }
        }
    }
    Ok(found)
}

async fn look_at(path: PathBuf, name: &str) -> anyhow::Result<LocalImage> {
    let name = registry_name(name)?;
    let shown = path.display().to_string();
    tokio::task::spawn_blocking(move || {
        let digest = digest_file(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = path.metadata()?.len();
        Ok(LocalImage { path, name, digest, bytes, is_there: false })
    })
    .await
    .with_context(|| format!("looking at {shown} ended badly"))?
}

/// The name as image names are written: small letters, and no punctuation at the ends of its parts.
pub(crate) fn registry_name(name: &str) -> anyhow::Result<String> {
    let part = |part: &str| part.to_lowercase().trim_matches(['-', '_', '.']).to_owned();
    let name = name.split('/').map(part).collect::<Vec<_>>().join("/");
    ImageReference::parse(&name).with_context(|| {
        format!(
            "no image name can be made of {name:?}; push the component with `coracle push` and name the image"
        )
    })?;
    Ok(name)
}

/// Finds out which of them the registry has.
pub(super) async fn compare(
    client: &ApiClient,
    mut images: Vec<LocalImage>,
) -> anyhow::Result<Vec<LocalImage>> {
    if images.is_empty() {
        return Ok(images);
    }
    let answer = client.own("GET", "images", bytes::Bytes::new()).await.context("cannot list the images")?;
    let there = answer["images"].as_array().cloned().unwrap_or_default();
    for image in &mut images {
        let is_same =
            |one: &Value| one["name"] == image.name.as_str() && one["digest"] == image.digest.as_str();
        image.is_there = there.iter().any(is_same);
    }
    Ok(images)
}

/// Puts those that are not there into the registry.
pub(super) async fn push(client: &ApiClient, images: &[LocalImage], out: &Printer) -> anyhow::Result<()> {
    for image in images.iter().filter(|image| !image.is_there) {
        let shown = image.path.display();
        let bytes = tokio::fs::read(&image.path).await.with_context(|| format!("cannot read {shown}"))?;
        let pushed = push_bytes(client, &image.name, bytes)
            .await
            .with_context(|| format!("cannot push {shown} as {}", image.name))?;
        if pushed["digest"] != image.digest.as_str() {
            bail!("{shown} has changed in the meantime; apply again");
        }
        out.line(&format!("pushed {shown} as {}", image.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        for path in ["./a.wasm", "../a/b", "/abs/a.wasm", "target/a.wasm", "a.wasm"] {
            assert!(is_local(path), "{path}");
        }
        for name in
            ["web", "web:1.4", "acme/web@sha256:00", "file:///srv/a.wasm", "registry.example.com/web:wasm"]
        {
            assert!(!is_local(name), "{name}");
        }
    }

    #[test]
    fn names_are_as_the_registry_wants_them() {
        assert_eq!(registry_name("WebApp_/Main").unwrap(), "webapp/main");
        assert!(registry_name("___/x").is_err());
    }
}
