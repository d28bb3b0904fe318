//! Where the bytes of pictures are kept: the address in `[blobs] url`, taken apart and checked.

use std::path::PathBuf;

use super::{Config, Environment};

/// A place for blobs.
#[derive(Clone, Debug)]
pub enum BlobPlace {
    /// A folder of this machine, or one that is mounted.
    Folder(PathBuf),
    /// A bucket that several machines share.
    Bucket(Bucket),
}

/// A bucket of an object store.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The protocol that the store speaks.
    pub protocol: Protocol,
    /// The bucket; Azure calls it a container.
    pub name: String,
    /// What the names of all objects begin with, without slashes at its ends. Empty is the bucket itself.
    pub prefix: String,
    /// Credentials, endpoint and region, under the names that the store's own tools give them.
    pub settings: Environment,
}

/// The protocol of an object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `s3://`: S3 and everything that speaks it.
    S3,
    /// `gs://`: Google Cloud Storage.
    Gcs,
    /// `az://`: Azure Blob Storage.
    Azure,
}

impl Protocol {
    /// What its addresses begin with.
    pub const fn scheme(self) -> &'static str {
        match self {
            Protocol::S3 => "s3",
            Protocol::Gcs => "gs",
            Protocol::Azure => "az",
        }
    }

    /// What its environment variables begin with.
    pub const fn variables(self) -> &'static str {
        match self {
            Protocol::S3 => "AWS_",
            Protocol::Gcs => "GOOGLE_",
            Protocol::Azure => "AZURE_",
        }
    }
}

impl Config {
    /// Where the bytes of pictures are: `blobs.url`, else the folder `blobs` in `storage.path`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the address.
    pub fn blob_place(&self, environment: &Environment) -> Result<BlobPlace, String> {
        match &self.blobs.url {
            Some(url) => BlobPlace::parse(url, environment),
            None => Ok(BlobPlace::Folder(self.storage.path.join("blobs"))),
        }
    }
}

impl BlobPlace {
    /// Takes an address apart. Nothing is opened or connected.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it. It does not repeat what could be a secret.
    pub fn parse(url: &str, environment: &Environment) -> Result<BlobPlace, String> {
        const SCHEMES: &str = "begin it with s3://, gs://, az:// or file:///";
        let address = reqwest::Url::parse(url).map_err(|error| format!("url is no address ({error}); {SCHEMES}"))?;
        if !address.username().is_empty() || address.password().is_some() {
            return Err("url must not hold credentials; set them in the environment".to_owned());
        }
        if address.query().is_some() || address.fragment().is_some() || address.port().is_some() {
            return Err("url must be a bucket and a prefix, without port, ? and #; an endpoint of your own is set in \
                        the environment, such as AWS_ENDPOINT_URL"
                .to_owned());
        }
        let protocol = match address.scheme() {
            "file" => return folder(url, &address),
            "s3" => Protocol::S3,
            "gs" => Protocol::Gcs,
            "az" => Protocol::Azure,
            other => return Err(format!("url begins with {other}:, which is unknown; {SCHEMES}")),
        };
        let scheme = protocol.scheme();
        let name = address.host_str().unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(format!("url names no bucket; write {scheme}://BUCKET or {scheme}://BUCKET/PREFIX"));
        }
        let path = address.path();
        let prefix = path.strip_prefix('/').unwrap_or(path);
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-=".contains(&b));
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return Err(format!(
                "url has a prefix that not every store can hold; use letters, digits and . _ - = between single \
                 slashes: {scheme}://{name}/PREFIX"
            ));
        }
        let settings = environment.beginning_with(protocol.variables());
        Ok(BlobPlace::Bucket(Bucket { protocol, name: name.to_owned(), prefix: prefix.to_owned(), settings }))
    }
}

fn folder(url: &str, address: &reqwest::Url) -> Result<BlobPlace, String> {
    // `file:pictures` and `file://pictures` would silently become another folder than was meant.
    let absolute = url.get(.."file:///".len()).is_some_and(|begin| begin.eq_ignore_ascii_case("file:///"));
    let path = address.to_file_path().ok().filter(|path| absolute && path.parent().is_some());
    path.map(BlobPlace::Folder).ok_or_else(|| "url must name an absolute folder: file:///PATH".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<BlobPlace, String> {
        let variables = ["AWS_REGION", "GOOGLE_BUCKET", "AZURE_X", "OPENAI_API_KEY", "XAWS_"];
        BlobPlace::parse(url, &variables.map(|name| (name.to_owned(), "sk-1x7".to_owned())).into_iter().collect())
    }

    #[test]
    fn buckets() {
        for (url, protocol, name, prefix, variable) in [
            ("s3://pictures", Protocol::S3, "pictures", "", "AWS_REGION"),
            ("s3://My.Pictures-1/", Protocol::S3, "My.Pictures-1", "", "AWS_REGION"),
            ("gs://pictures/mimeo", Protocol::Gcs, "pictures", "mimeo", "GOOGLE_BUCKET"),
            ("az://pictures/a/b=1/", Protocol::Azure, "pictures", "a/b=1", "AZURE_X"),
        ] {
            let BlobPlace::Bucket(bucket) = parse(url).unwrap() else { panic!("{url} is a bucket") };
            assert_eq!((bucket.protocol, bucket.name.as_str(), bucket.prefix.as_str()), (protocol, name, prefix));
            assert_eq!(format!("{:?}", bucket.settings), format!("{{{variable:?}}}"));
        }
    }

    #[test]
    fn folders() {
        for (url, folder) in
            [("file:///srv/pictures", "/srv/pictures"), ("file:///srv/my%20pictures/", "/srv/my pictures")]
        {
            assert!(
                matches!(parse(url), Ok(BlobPlace::Folder(path)) if path.as_path() == std::path::Path::new(folder)),
                "{url}"
            );
        }
        let config = Config::default();
        let place = config.blob_place(&Environment::default());
        assert!(matches!(place, Ok(BlobPlace::Folder(path)) if path == config.storage.path.join("blobs")));
    }

    #[test]
    fn what_is_wrong_and_what_to_do() {
        for (url, says) in [
            ("pictures", "begin it with s3://"),
            ("ftp://pictures", "ftp:, which is unknown"),
            ("s3://", "s3://BUCKET"),
            ("s3:pictures", "s3://BUCKET"),
            ("gs:///pictures", "gs://BUCKET"),
            ("s3://pictures//a", "single slashes"),
            ("s3://pictures/a b", "letters, digits"),
            ("s3://key:sk-1x7@pictures", "must not hold credentials"),
            ("az://pictures?sig=sk-1x7", "without port"),
            ("s3://pictures:9000/a", "AWS_ENDPOINT_URL"),
            ("file://pictures", "absolute folder"),
            ("file:pictures", "absolute folder"),
            ("file:///", "absolute folder"),
        ] {
            let message = parse(url).unwrap_err();
            assert!(message.contains(says) && !message.contains("1x7"), "{url}: {message}");
        }
    }
}
