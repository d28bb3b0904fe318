//! Blobs in a bucket.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use crate::config::{Bucket, Environment, Protocol};
use crate::net::client::Clients;

/// The store of a bucket. Nothing is connected yet.
pub(super) fn store(bucket: &Bucket) -> object_store::Result<Arc<dyn ObjectStore>> {
    let (name, settings) = (bucket.name.as_str(), &bucket.settings);
    let door = Door(Clients::default());
    Ok(match bucket.protocol {
        Protocol::S3 => {
            // The store verifies what arrives. Who needs another checksum says so in AWS_CHECKSUM_ALGORITHM.
            let builder = AmazonS3Builder::new().with_checksum_algorithm(Checksum::SHA256);
            let with = |builder: AmazonS3Builder, key: AmazonS3ConfigKey, value| builder.with_config(key, value);
            let builder = configured(builder, settings, with).with_bucket_name(name);
            Arc::new(builder.with_retry(patience()).with_http_connector(door).build()?)
        }
        Protocol::Gcs => {
            let with =
                |builder: GoogleCloudStorageBuilder, key: GoogleConfigKey, value| builder.with_config(key, value);
            let builder = configured(GoogleCloudStorageBuilder::new(), settings, with).with_bucket_name(name);
            Arc::new(builder.with_retry(patience()).with_http_connector(door).build()?)
        }
        Protocol::Azure => {
            let with = |builder: MicrosoftAzureBuilder, key: AzureConfigKey, value| builder.with_config(key, value);
            let builder = configured(MicrosoftAzureBuilder::new(), settings, with).with_container_name(name);
            Arc::new(builder.with_retry(patience()).with_http_connector(door).build()?)
        }
    })
}

/// Puts in all settings that the library knows; the environment has others with the same beginning.
fn configured<B, K: FromStr>(builder: B, settings: &Environment, with: impl Fn(B, K, String) -> B) -> B {
    settings.iter().fold(builder, |builder, (name, value)| match name.to_ascii_lowercase().parse() {
        Ok(key) => with(builder, key, value.to_owned()),
        Err(_) => builder,
    })
}

/// Objects have names that are used once, so a repeated request does no harm; but a request of ours waits
/// for it, so it is soon given up.
fn patience() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(10) }
}

/// The way out, through the clients that everybody here uses.
#[derive(Clone, Debug)]
struct Door(Clients);

impl HttpConnector for Door {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allowed = options.get_config_value(&ClientConfigKey::AllowHttp).unwrap_or_default().to_ascii_lowercase();
        let plain_allowed = ["1", "true", "on", "yes", "y"].contains(&allowed.as_str());
        if !plain_allowed {
            // It will be needed, and if the machine has no certificates it is better told now.
            let no_client = |source| object_store::Error::Generic { store: "HTTPS", source: Box::new(source) };
            self.0.storage("https").map_err(no_client)?;
        }
        Ok(HttpClient::new(Way { clients: self.0.clone(), plain_allowed }))
    }
}

#[derive(Debug)]
struct Way {
    clients: Clients,
    plain_allowed: bool,
}

/// An address without TLS where that was not asked for.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint has no TLS")]
pub(super) struct PlainRefused;

#[async_trait]
impl HttpService for Way {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let scheme = request.uri().scheme_str().unwrap_or("https");
        if scheme == "http" && !self.plain_allowed {
            return Err(HttpError::new(HttpErrorKind::Unknown, PlainRefused));
        }
        let client = self.clients.storage(scheme).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        client.call(request).await
    }
}
