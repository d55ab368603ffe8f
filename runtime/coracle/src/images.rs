//! `coracle push` and `coracle images`, and the registry as the agent's source of images.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use coracle_agent::{FetchedImage, ImageSource};
use coracle_registry::Registry;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::cli::{ImagesArgs, PushArgs};
use crate::client::ApiClient;
use crate::output::{note, say};
use crate::table::{Table, age, size};

/// Fills the agent's wish for images from the built-in registry and the file system.
pub(crate) struct RegistryImages(pub(crate) Arc<Registry>);

impl ImageSource for RegistryImages {
    fn fetch(&self, image: &str) -> BoxFuture<'static, Result<FetchedImage, String>> {
        let (registry, image) = (Arc::clone(&self.0), image.to_owned());
        async move {
            tokio::task::spawn_blocking(move || registry.resolve(&image))
                .await
                .map_err(|_| "the registry failed while looking the image up; its log says more".to_owned())?
                .map(|found| FetchedImage { digest: found.digest, path: found.path })
                .map_err(|error| error.to_string())
        }
        .boxed()
    }
}

/// `coracle push FILE NAME:TAG`
pub(crate) async fn push(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let bytes =
        tokio::fs::read(&args.file).await.with_context(|| format!("cannot read {}", args.file.display()))?;
    let client = ApiClient::new(&args.api)?;
    let pushed = push_bytes(&client, &args.reference, bytes).await?;
    if args.api.json {
        say!("{pushed:#}")?;
    } else {
        let length = pushed["size"].as_u64().unwrap_or_default();
        say!("{} {} ({})", args.reference, pushed["digest"].as_str().unwrap_or_default(), size(length))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a component into the registry behind `client`.
pub(crate) async fn push_bytes(client: &ApiClient, reference: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
    let reference: String = reference
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    client.own("POST", &format!("images?reference={reference}"), bytes.into()).await
}

/// `coracle images`
pub(crate) async fn list(args: &ImagesArgs) -> anyhow::Result<ExitCode> {
    let answer = ApiClient::new(&args.api)?.own("GET", "images", bytes::Bytes::new()).await?;
    if args.api.json {
        say!("{answer:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NAME", "TAG", "DIGEST", "SIZE", "PUSHED"]);
    for image in answer["images"].as_array().into_iter().flatten() {
        let text = |name: &str| image[name].as_str().unwrap_or_default().to_owned();
        let digest = text("digest");
        let pushed = now_seconds() - image["pushedAt"].as_f64().unwrap_or_default();
        table.row([
            text("name"),
            image["tag"].as_str().unwrap_or("<none>").to_owned(),
            digest.chars().take("sha256:".len() + 12).collect(),
            size(image["size"].as_u64().unwrap_or_default()),
            format!("{} ago", age(pushed)),
        ]);
    }
    if table.is_empty() {
        note!("no images yet; `coracle push FILE NAME:TAG` adds one");
    } else {
        say!("{table}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds since the Unix epoch.
pub(crate) fn now_seconds() -> f64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
