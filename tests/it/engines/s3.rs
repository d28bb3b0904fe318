//! An S3 server: moto, which keeps its objects in memory.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Engine, Process, locate, loopback, target};
use crate::world::Folder;

/// A fresh bucket on the server that all tests of this process share.
pub struct S3 {
    port: u16,
    bucket: String,
}

/// The server. It is never dropped: the watchdog ends it when this process ends.
struct Shared {
    process: Process,
    folder: Folder,
    port: u16,
}

impl S3 {
    /// Makes a bucket.
    pub fn start() -> S3 {
        let s3 = S3 { port: shared().port, bucket: format!("bucket-{:032x}", mimeo::domain::id::random()) };
        assert_eq!(s3.ask("PUT", "", b"").0, 200, "no bucket could be made");
        s3
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// Where blobs go in the bucket, for `blobs.url`.
    pub fn url(&self) -> String {
        format!("s3://{}/blobs", self.bucket)
    }

    /// The environment in which a gateway finds the server.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment_at(self.address())
    }

    /// The same by way of another address.
    pub fn environment_at(&self, address: SocketAddr) -> Vec<(String, String)> {
        let endpoint = format!("http://{address}");
        let variables = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "mimeo"),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// The keys of all objects in the bucket, in order. At most 1000 are told.
    pub fn keys(&self) -> Vec<String> {
        let (status, body) = self.ask("GET", "?list-type=2", b"");
        assert_eq!(status, 200, "the bucket could not be listed");
        let list = String::from_utf8(body).expect("a list is text");
        let entries = list.split("<Key>").skip(1);
        entries.filter_map(|entry| entry.split("</Key>").next()).map(str::to_owned).collect()
    }

    /// Sends a request for `key` (nothing for the bucket itself) past the gateway; its status and body.
    pub fn ask(&self, method: &str, key: &str, body: &[u8]) -> (u16, Vec<u8>) {
        // The server wants to see a signature, and does not check it.
        let head = format!(
            "{method} /{}/{key} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n\
             Content-Type: application/octet-stream\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=mimeo/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n",
            self.bucket,
            self.address(),
            body.len()
        );
        let mut stream = TcpStream::connect(self.address()).expect("the server listens");
        stream.write_all(&[head.as_bytes(), body].concat()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
        let body = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer);
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("the answer has a status"), body)
    }

    /// The folder and the process of the server.
    pub(super) fn traces() -> (PathBuf, u32) {
        (shared().folder.0.clone(), shared().process.pid)
    }
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let places = vec![target().join("engines/python/bin")];
        let program = locate("moto, the S3 server,", "MIMEO_TEST_MOTO_BIN", places, &["moto_server"]);
        let folder = Folder::new();
        let (port, process) = Process::on_a_free_port(|port| {
            let mut command = Command::new(program.join("moto_server"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            let ready = "Running on http";
            Process::start(Engine { name: "s3", command, folder: &folder.0, user: None, signal: "KILL", ready })
        });
        Shared { process, folder, port }
    })
}
