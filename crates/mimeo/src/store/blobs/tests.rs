//! One contract, held by folders and by buckets, and what each has beyond it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::Body;
use axum::http::{Method, Response};

use super::s3_server::{Front, S3Server, SECRET, answer, environment, place};
use super::*;

/// A place, and the way to its bytes behind its back.
struct Ground {
    blobs: Blobs,
    back: Back,
}

enum Back {
    Folder(TestFolder),
    Bucket { server: S3Server, path: &'static str },
}

impl Ground {
    fn folder() -> Ground {
        let folder = TestFolder::new();
        Ground { blobs: folder.open(Durability::Power), back: Back::Folder(folder) }
    }

    /// With a server in front, which everything passes.
    async fn bucket() -> (Ground, Front) {
        let server = S3Server::start();
        server.create_bucket("pictures").await;
        let front = Front::start(Some(&server.url)).await;
        let blobs = open(&place("s3://pictures/of/mimeo", &front.url));
        (Ground { blobs, back: Back::Bucket { server, path: "pictures/of/mimeo" } }, front)
    }

    async fn read(&self, name: &str) -> Vec<u8> {
        match &self.back {
            Back::Folder(folder) => std::fs::read(folder.0.join(name)).unwrap(),
            Back::Bucket { server, path } => {
                server.object(Method::GET, &format!("{path}/{name}"), Bytes::new()).await.into()
            }
        }
    }

    async fn write(&self, name: &str, bytes: Vec<u8>) {
        match &self.back {
            Back::Folder(folder) => std::fs::write(folder.0.join(name), bytes).unwrap(),
            Back::Bucket { server, path } => {
                server.object(Method::PUT, &format!("{path}/{name}"), bytes.into()).await;
            }
        }
    }
}

/// A folder that is removed with its content.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new() -> TestFolder {
        let path = std::env::temp_dir().join(format!("mimeo-blobs-{:032x}", crate::domain::id::random()));
        TestFolder(path)
    }

    fn open(&self, durability: Durability) -> Blobs {
        Blobs::open(&BlobPlace::Folder(self.0.clone()), durability).unwrap()
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(place: &BlobPlace) -> Blobs {
    Blobs::open(place, Durability::Power).unwrap()
}

/// `length` bytes that no other length has.
fn bytes(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn put(blobs: &Blobs, bytes: &Bytes) -> BlobName {
    let name = blobs.put(Digest::of(bytes), bytes.clone()).await.unwrap();
    assert_eq!(name.digest(), Digest::of(bytes));
    name
}

async fn listed(blobs: &Blobs) -> BTreeMap<BlobName, u64> {
    let mut found = BTreeMap::new();
    let mut list = blobs.list();
    while let Some(listed) = list.next().await {
        let Listed { name, bytes, .. } = listed.unwrap();
        assert!(found.insert(name, bytes).is_none(), "{name} is listed twice");
    }
    found
}

/// What every place promises.
async fn contract(ground: &Ground) {
    let blobs = &ground.blobs;
    assert_eq!(listed(blobs).await, BTreeMap::new());

    // What was put is there, under two names if put twice.
    let kite = bytes(100_000);
    let (one, two) = (put(blobs, &kite).await, put(blobs, &kite).await);
    assert_ne!(one, two);
    assert_eq!(ground.read(&one.to_string()).await, kite);
    for name in [one, two] {
        assert_eq!(blobs.get(&name).await, Ok(BlobRead::Found(kite.clone())));
    }
    // Removing one leaves the other alone.
    assert_eq!(blobs.remove(&one).await, Ok(true));
    assert_eq!(blobs.remove(&one).await, Ok(false));
    assert_eq!(blobs.get(&one).await, Ok(BlobRead::Missing));
    assert_eq!(blobs.get(&two).await, Ok(BlobRead::Found(kite.clone())));

    // A large one, and one at each side of the border to parts.
    let mut there = BTreeMap::from([(two, 100_000)]);
    for length in [1, PART - 1, PART, 20_000_000] {
        let large = bytes(length);
        let name = put(blobs, &large).await;
        assert_eq!(blobs.get(&name).await, Ok(BlobRead::Found(large)), "{length} bytes");
        there.insert(name, length as u64);
    }

    // Names of earlier versions are as good; what is put under one replaces what was there.
    let old = BlobName::legacy(Digest::of(&kite));
    ground.write(&old.to_string(), bytes(17).into()).await;
    assert_eq!(blobs.get(&old).await, Ok(BlobRead::Corrupt));
    assert_eq!(blobs.put_as(old, kite.clone()).await, Ok(()));
    assert_eq!(blobs.get(&old).await, Ok(BlobRead::Found(kite.clone())));
    there.insert(old, 100_000);
    assert_eq!(blobs.corrupt(), 1);

    // What does not match is not given out, stays, and is counted.
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("one bit", |bytes| bytes[50_000] ^= 1),
        ("cut", |bytes| bytes.truncate(99_999)),
        ("empty", Vec::clear),
        ("longer", |bytes| bytes.push(0)),
    ];
    for (index, (damage, apply)) in damages.into_iter().enumerate() {
        let name = put(blobs, &kite).await;
        let mut damaged = ground.read(&name.to_string()).await;
        apply(&mut damaged);
        ground.write(&name.to_string(), damaged).await;
        assert_eq!(blobs.get(&name).await, Ok(BlobRead::Corrupt), "{damage}");
        assert_eq!(blobs.corrupt(), index as u64 + 2, "{damage}");
        assert_eq!(blobs.remove(&name).await, Ok(true), "{damage}");
        assert_eq!(blobs.get(&name).await, Ok(BlobRead::Missing), "{damage}");
    }

    // Sixteen who come at once agree on the identity, and so does everybody after them.
    assert_eq!(blobs.is_unmarked().await, Ok(true));
    let answers = futures_util::future::join_all((1..=16).map(|ours| blobs.identity(ours))).await;
    let id = answers[0].clone().unwrap();
    assert!((1..=16).contains(&id) && answers.iter().all(|answer| *answer == Ok(id)), "{answers:?}");
    assert_eq!(blobs.identity(99).await, Ok(id));
    assert_eq!(blobs.is_unmarked().await, Ok(false));
    assert_eq!(ground.read(MARK).await, format!("{id:032x}").as_bytes());

    // The list has all of them and nothing else, with their lengths and times.
    ground.write("ab/notes.txt", b"somebody else's".to_vec()).await;
    ground.write("README", b"somebody else's".to_vec()).await;
    assert_eq!(listed(blobs).await, there);
    let now = Clock::System.now();
    let first = blobs.list().next().await.unwrap().unwrap();
    assert!(first.age(now) < Duration::from_secs(600) && first.written_ms <= now + 60_000, "{first:?} at {now}");
    for name in there.keys() {
        assert_eq!(blobs.remove(name).await, Ok(true));
    }
    assert_eq!(listed(blobs).await, BTreeMap::new());

    // A mark that is none is not taken for one.
    ground.write(MARK, b"somebody else's".to_vec()).await;
    let error = blobs.identity(7).await.unwrap_err();
    assert!(matches!(&error, BlobError::Unusable { cause, .. } if cause.contains(MARK)), "{error}");
}

#[tokio::test]
async fn a_folder_holds_the_contract() {
    contract(&Ground::folder()).await;
    let folder = TestFolder::new();
    contract(&Ground { blobs: folder.open(Durability::Process), back: Back::Folder(folder) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_holds_the_contract() {
    let (ground, front) = Ground::bucket().await;
    contract(&ground).await;
    let seen = front.seen();
    // 20,000,000 bytes are three parts, and 8 MiB one; whatever holds bytes has a checksum that the store verifies.
    let parts = |seen: &&s3_server::Seen| seen.uri.query().unwrap_or_default().contains("partNumber=");
    assert_eq!(seen.iter().filter(parts).count(), 4);
    let writes: Vec<_> = seen.iter().filter(|seen| seen.method == Method::PUT).collect();
    assert!(!writes.is_empty() && writes.iter().all(|seen| seen.headers.contains_key("x-amz-checksum-sha256")));
}

/// Fails the first `count` requests for which `which` holds with that answer.
fn failing(
    count: u32,
    status: u16,
    code: &'static str,
    which: fn(&s3_server::Seen) -> bool,
) -> impl FnMut(&s3_server::Seen, Response<Body>) -> Response<Body> + Send {
    let left = AtomicU32::new(count);
    move |seen, passed| {
        let due = which(seen) && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        if due { answer(status, code) } else { passed }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_transfer_is_not_a_bad_blob() {
    let (Ground { blobs, back: _server }, front) = Ground::bucket().await;
    let kite = bytes(1000);
    let name = put(&blobs, &kite).await;
    let mut spoiled = false;
    front.meddle(move |seen, passed| {
        if seen.method != Method::GET || std::mem::replace(&mut spoiled, true) {
            return passed;
        }
        let (parts, _) = passed.into_parts();
        Response::from_parts(parts, Body::from(vec![7; 1000]))
    });
    assert_eq!(blobs.get(&name).await, Ok(BlobRead::Found(kite)));
    assert_eq!(blobs.corrupt(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_for_a_moment_is_waited_for() {
    let (Ground { blobs, back: _server }, front) = Ground::bucket().await;
    let kite = bytes(1000);
    front.meddle(failing(2, 503, "SlowDown", |_| true));
    let name = put(&blobs, &kite).await;
    front.meddle(failing(2, 500, "InternalError", |_| true));
    assert_eq!(blobs.get(&name).await, Ok(BlobRead::Found(kite)));
    // One that stays busy is given up, and is not taken for one that has lost the picture.
    front.meddle(failing(u32::MAX, 503, "SlowDown", |_| true));
    front.seen();
    let error = blobs.get(&name).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the pictures in s3://pictures/of/mimeo cannot be reached at the moment: it answers 503 SlowDown"
    );
    assert_eq!(front.seen().len(), 4);
    let told = crate::error::Error::from(error);
    assert_eq!((told.kind.status(), told.kind.should_retry()), (503, Some(true)));
    assert!(told.retry_after.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_is_aborted() {
    let (Ground { blobs, back: _server }, front) = Ground::bucket().await;
    front.meddle(failing(1, 400, "BadDigest", |seen| seen.uri.query().unwrap_or_default().contains("partNumber=2")));
    let large = bytes(20_000_000);
    let error = blobs.put(Digest::of(&large), large).await.unwrap_err();
    assert!(matches!(&error, BlobError::Unusable { cause, .. } if cause.contains("400 BadDigest")), "{error}");
    let aborted = |seen: &s3_server::Seen| {
        seen.method == Method::DELETE && seen.uri.query().unwrap_or_default().contains("uploadId=")
    };
    assert!(front.seen().iter().any(aborted));
    assert_eq!(listed(&blobs).await, BTreeMap::new());
}

/// Everything that can be asked of a place, with its error.
async fn all_errors(blobs: &Blobs) -> Vec<BlobError> {
    let (kite, large) = (bytes(1000), bytes(PART));
    let name = BlobName::fresh(Digest::of(&kite));
    vec![
        blobs.put(Digest::of(&kite), kite).await.unwrap_err(),
        blobs.put(Digest::of(&large), large).await.unwrap_err(),
        blobs.get(&name).await.unwrap_err(),
        blobs.remove(&name).await.unwrap_err(),
        blobs.list().next().await.unwrap().unwrap_err(),
        blobs.is_unmarked().await.unwrap_err(),
        blobs.identity(7).await.unwrap_err(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_bucket_is_said() {
    let (Ground { back: _server, .. }, front) = Ground::bucket().await;
    let absent = open(&place("s3://absent/of/mimeo", &front.url));
    for error in all_errors(&absent).await {
        let BlobError::Unusable { place, cause } = &error else { panic!("{error}") };
        assert_eq!(place, "s3://absent/of/mimeo");
        let says = "there is no bucket absent (it answers 404 NoSuchBucket). Create it, or correct blobs.url";
        assert!(cause.starts_with(says), "{cause}");
        assert_eq!(crate::error::Error::from(error).kind, crate::error::Kind::Internal);
    }
    let blobs = open(&place("s3://pictures", &front.url));
    for (status, code, says) in [
        (403, "AccessDenied", "access is denied (it answers 403 AccessDenied). Look at AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "access is denied (it answers 403 SignatureDoesNotMatch)"),
        (301, "PermanentRedirect", "the bucket pictures is elsewhere (it answers 301). Look at AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "it answers 400 AuthorizationHeaderMalformed. Look at AWS_ACCESS_KEY_ID"),
        (400, SECRET, "it answers 400. Look at AWS_ACCESS_KEY_ID"),
    ] {
        front.meddle(move |_, _| answer(status, code));
        for error in all_errors(&blobs).await {
            let BlobError::Unusable { cause, .. } = &error else { panic!("{error}") };
            assert!(cause.starts_with(says), "{cause}");
            assert!(!format!("{error:?}").contains(SECRET));
        }
    }
    assert_eq!(format!("{blobs:?}"), "Blobs(s3://pictures)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_said_to_be_so_soon() {
    let mut server = S3Server::start();
    server.create_bucket("pictures").await;
    let blobs = open(&place("s3://pictures", &server.url));
    let kite = bytes(1000);
    let name = put(&blobs, &kite).await;
    server.stop();
    let began = tokio::time::Instant::now();
    for error in all_errors(&blobs).await {
        let BlobError::Unavailable { place, cause } = &error else { panic!("{error}") };
        assert_eq!(place, "s3://pictures");
        assert!(cause.contains("onnection refused"), "{cause}");
    }
    // Six operations of at most four tries each; every one of them would be given 10 s and the last try.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(blobs.get(&name).await.is_err(), "that it is down does not mean that it is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_tls_must_be_wanted() {
    let settings = [("AWS_ACCESS_KEY_ID", "mimeo"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let endpoint = [("AWS_ENDPOINT_URL", "http://127.0.0.1:9")];
    let place = BlobPlace::parse("s3://pictures", &environment(&[&settings[..], &endpoint].concat())).unwrap();
    for error in all_errors(&open(&place)).await {
        assert!(
            matches!(&error, BlobError::Unusable { cause, .. } if cause.contains("set AWS_ALLOW_HTTP=true")),
            "{error}"
        );
    }
}

/// The other protocols: their settings are understood, and requests go where the address says.
#[tokio::test(flavor = "multi_thread")]
async fn other_protocols() {
    let key = base64_simd::STANDARD.encode_to_string(SECRET);
    let front = Front::start(None).await;
    let kite = bytes(1000);
    let name = BlobName::fresh(Digest::of(&kite));
    let google =
        [("GOOGLE_BEARER_TOKEN", SECRET), ("GOOGLE_BASE_URL", front.url.as_str()), ("GOOGLE_ALLOW_HTTP", "true")];
    let azure = [
        ("AZURE_STORAGE_ACCOUNT_NAME", "mimeo"),
        ("AZURE_STORAGE_ACCOUNT_KEY", key.as_str()),
        ("AZURE_STORAGE_ENDPOINT", front.url.as_str()),
        ("AZURE_ALLOW_HTTP", "true"),
    ];
    for (url, settings, missing_bucket) in
        [("gs://pictures/of", &google[..], "NoSuchBucket"), ("az://pictures/of", &azure[..], "ContainerNotFound")]
    {
        let blobs = open(&BlobPlace::parse(url, &environment(settings)).unwrap());
        let sent = kite.clone();
        front.meddle(move |_, _| {
            let date = "Sat, 21 Nov 2026 11:55:00 GMT";
            let answer = Response::builder().header("etag", "\"1\"").header("last-modified", date);
            answer.header("x-ms-blob-type", "BlockBlob").body(Body::from(sent.clone())).unwrap()
        });
        front.seen();
        assert_eq!(blobs.get(&name).await, Ok(BlobRead::Found(kite.clone())), "{url}");
        let seen = front.seen();
        let path = seen[0].uri.path().replace("%2F", "/").replace("%2E", ".");
        assert_eq!(path, format!("/pictures/of/{name}"), "{url}");
        assert!(seen[0].headers.contains_key("authorization"), "{url}");
        front.meddle(|_, _| answer(404, "NoSuchKey"));
        assert_eq!(blobs.get(&name).await, Ok(BlobRead::Missing), "{url}");
        assert_eq!(blobs.remove(&name).await, Ok(false), "{url}");
        front.meddle(move |_, _| answer(404, missing_bucket));
        for error in [blobs.get(&name).await.unwrap_err(), blobs.remove(&name).await.unwrap_err()] {
            let BlobError::Unusable { cause, .. } = &error else { panic!("{error}") };
            assert!(cause.contains("there is no bucket pictures"), "{cause}");
        }
        let shown = format!("{blobs:?} {:?}", blobs.get(&name).await);
        assert!(!shown.contains(SECRET) && !shown.contains(&key), "{shown}");
    }
}

#[test]
fn no_setting_that_is_secret_is_repeated() {
    let BlobPlace::Bucket(bucket) = place("s3://pictures", "http://127.0.0.1:9") else { panic!("a bucket") };
    let place = Place::bucket(&bucket);
    for error in [place.unavailable(format!("{SECRET} at http://127.0.0.1:9")), place.unusable(format!("is {SECRET}"))]
    {
        let shown = format!("{error} {error:?} {place:?}");
        assert!(shown.contains('…') && !shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn incomplete_settings_are_found_at_the_start() {
    for (url, settings, says) in [
        ("s3://pictures", &[("AWS_ACCESS_KEY_ID", "mimeo")][..], "AWS_SECRET_ACCESS_KEY"),
        ("s3://pictures", &[("AWS_SECRET_ACCESS_KEY", SECRET)][..], "AWS_ACCESS_KEY_ID"),
        ("az://pictures", &[][..], "AZURE_STORAGE_ACCOUNT_NAME"),
        ("gs://pictures", &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")][..], "/nowhere/key.json"),
    ] {
        let place = BlobPlace::parse(url, &environment(settings)).unwrap();
        let error = Blobs::open(&place, Durability::Power).unwrap_err().to_string();
        assert!(error.contains(url) && error.contains(says) && !error.contains(SECRET), "{error}");
    }
}

#[tokio::test]
async fn a_folder_that_is_gone_has_not_lost_its_blobs() {
    let folder = TestFolder::new();
    let blobs = folder.open(Durability::Power);
    let kite = bytes(1000);
    let name = put(&blobs, &kite).await;
    let away = folder.0.with_extension("away");
    std::fs::rename(&folder.0, &away).unwrap();
    // Also where an empty folder is left of it, as it is of a disk that is not mounted.
    for left in [false, true] {
        if left {
            std::fs::create_dir(&folder.0).unwrap();
        }
        let mut errors = all_errors(&blobs).await;
        errors.push(blobs.get(&name).await.unwrap_err());
        for error in errors {
            assert!(matches!(&error, BlobError::Unavailable { cause, .. } if cause.contains("mounted")), "{error}");
        }
        assert_eq!(folder.0.exists(), left);
    }
    // Nothing was written into it, or this would fail.
    std::fs::remove_dir(&folder.0).unwrap();
    std::fs::rename(&away, &folder.0).unwrap();
    assert_eq!(blobs.get(&name).await, Ok(BlobRead::Found(kite)));
}

#[tokio::test]
async fn what_a_crash_left_behind_is_removed() {
    let folder = TestFolder::new();
    let name = put(&folder.open(Durability::Power), &bytes(1000)).await;
    let unfinished = BlobName::fresh(Digest::of(b"unfinished"));
    std::fs::create_dir(folder.0.join("tmp")).unwrap();
    let hours = |hours: u64| Duration::from_millis(Clock::System.now() as u64) - Duration::from_secs(hours * 3600);
    let files = [
        (name.to_string(), 100, true),
        (format!("{unfinished}#1"), 2, false),
        (format!("{unfinished}#2"), 0, true),
        (format!("{MARK}#1"), 2, false),
        (format!("{MARK}#1x"), 2, true),
        (format!("{}/notes#1", &name.to_string()[..2]), 2, true),
        ("tmp/0123".to_owned(), 2, false),
    ];
    for (file, age, _) in &files {
        let file = std::fs::File::options().create(true).append(true).open(folder.0.join(file)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + hours(*age)).unwrap();
    }
    let blobs = folder.open(Durability::Power);
    for (file, _, stays) in &files {
        assert_eq!(folder.0.join(file).exists(), *stays, "{file}");
    }
    assert!(!folder.0.join("tmp").exists());
    assert_eq!(listed(&blobs).await.into_keys().collect::<Vec<_>>(), [name]);
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let place = Place::folder(std::path::Path::new("/srv/pictures"));
    let fault = |kind: std::io::ErrorKind| {
        let source = Box::new(std::io::Error::from(kind));
        place.fault(&object_store::Error::Generic { store: "LocalFileSystem", source })
    };
    assert!(matches!(fault(std::io::ErrorKind::PermissionDenied), BlobError::Unusable { .. }));
    assert!(matches!(fault(std::io::ErrorKind::ReadOnlyFilesystem), BlobError::Unusable { .. }));
    assert!(matches!(fault(std::io::ErrorKind::StorageFull), BlobError::Unavailable { .. }));
}
