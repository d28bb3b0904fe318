//! A cluster of one test: several gateway processes on one ledger, a sandbox with its invoice book, and the engines.
//!
//! When a cluster ends, the one ledger is held against the book, line by line (I6), whatever became of the replicas.
//! A PostgreSQL server that the test took down must be up again by then.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::books::{self, Sandbox};
use crate::engines::{Postgres, Redis, S3};
use crate::proxy::Proxy;
use crate::world::{Folder, Reply, Server, binary, outcome, reply, reqwest_client, try_reply};

/// Several gateways and what they share.
pub struct Cluster {
    // In this order: the gateways end before what they stand on.
    pub replicas: Vec<Replica>,
    pub sandbox: Sandbox,
    pub postgres: Postgres,
    pub redis: Option<Redis>,
    pub s3: Option<S3>,
    pub client: reqwest::Client,
    pub folder: Folder,
    audited: bool,
}

/// One of the gateways.
pub struct Replica {
    pub gateway: Server,
    /// What it reaches the engines by; `None` if it does so directly.
    pub proxies: Option<Proxies>,
    /// Where its configuration and its data folder are.
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

/// One replica's ways to the engines, to be cut.
pub struct Proxies {
    pub postgres: Proxy,
    pub redis: Option<Proxy>,
    pub s3: Option<Proxy>,
}

/// What a cluster is to be like.
pub struct Builder {
    count: usize,
    config: String,
    lease: Option<u64>,
    redis: bool,
    s3: bool,
    own_postgres: bool,
    proxied: bool,
    environment: Vec<(usize, String, String)>,
}

impl Builder {
    /// With Redis between the replicas.
    pub fn redis(mut self) -> Builder {
        self.redis = true;
        self
    }

    /// With blobs in a bucket instead of a folder that all replicas see.
    pub fn s3(mut self) -> Builder {
        self.s3 = true;
        self
    }

    /// With a PostgreSQL server of its own, which the test may harm.
    pub fn own_postgres(mut self) -> Builder {
        self.own_postgres = true;
        self
    }

    /// With a proxy between each replica and each engine, see [`Replica::proxies`].
    pub fn proxied(mut self) -> Builder {
        self.proxied = true;
        self
    }

    /// How long a replica that says nothing is thought to be alive, in seconds.
    pub fn lease(mut self, seconds: u64) -> Builder {
        self.lease = Some(seconds);
        self
    }

    /// More configuration, for all replicas. `{sandbox}` in it stands for the sandbox's address.
    pub fn config(mut self, more: &str) -> Builder {
        self.config += more;
        self
    }

    /// A variable in the environment of one replica, like `MIMEO_FAILPOINTS`.
    pub fn environment(mut self, replica: usize, name: &str, value: &str) -> Builder {
        self.environment.push((replica, name.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything.
    pub fn start(self) -> Cluster {
        let folder = Folder::new();
        let sandbox = Sandbox::start(&folder.0);
        let postgres = if self.own_postgres { Postgres::own() } else { Postgres::start() };
        let mut cluster = Cluster {
            replicas: Vec::new(),
            sandbox,
            postgres,
            redis: self.redis.then(Redis::start),
            s3: self.s3.then(S3::start),
            client: reqwest_client(),
            folder,
            audited: false,
        };
        // The operator is next to the engines, whatever stands between them and the replicas.
        let operator = cluster.operator();
        self.write(&cluster, &operator, None);
        for index in 0..self.count {
            let folder = cluster.folder.0.join(format!("replica-{index}"));
            let proxies = self.proxied.then(|| cluster.proxies());
            self.write(&cluster, &folder, proxies.as_ref());
            let mut environment = cluster.s3_environment(proxies.as_ref());
            let own = self.environment.iter().filter(|(replica, ..)| *replica == index);
            environment.extend(own.map(|(_, name, value)| (name.clone(), value.clone())));
            let gateway = serve(&folder, &environment);
            cluster.replicas.push(Replica { gateway, proxies, folder, environment });
        }
        cluster
    }

    /// Writes the configuration that is read in `folder`.
    fn write(&self, cluster: &Cluster, folder: &Path, proxies: Option<&Proxies>) {
        let address = proxies.map_or(cluster.postgres.address(), |proxies| proxies.postgres.address());
        let mut config = format!("[storage]\nurl = '{}'\n", cluster.postgres.url_at(address));
        if let Some(lease) = self.lease {
            config += &format!("lease_s = {lease}\n");
        }
        let blobs = match &cluster.s3 {
            Some(s3) => s3.url(),
            None => format!("file://{}", cluster.folder.0.join("blobs").display()),
        };
        config += &format!("[blobs]\nurl = '{blobs}'\n");
        if let Some(redis) = &cluster.redis {
            let proxy = proxies.and_then(|proxies| proxies.redis.as_ref());
            let address = proxy.map_or(redis.address(), Proxy::address);
            config += &format!("[shared]\nurl = '{}'\n", redis.url_at(address));
        }
        config += &cluster.sandbox.providers_and(&self.config);
        std::fs::create_dir_all(folder).expect("the folder is writable");
        std::fs::write(folder.join("mimeo.toml"), config).expect("written");
    }
}

impl Cluster {
    /// `count` replicas with the providers `openai`, `compatible` and `sandbox`, all simulated, on one PostgreSQL
    /// database and one folder of blobs.
    pub fn of(count: usize) -> Builder {
        Builder {
            count,
            config: String::new(),
            lease: None,
            redis: false,
            s3: false,
            own_postgres: false,
            proxied: false,
            environment: Vec::new(),
        }
    }

    /// Asks a replica for pictures.
    pub async fn generate(&self, replica: usize, body: Value) -> Reply {
        self.post(replica, "/v1/images/generations", body).await
    }

    /// The same, where the replica may end meanwhile; `None` if the connection broke or there was none.
    pub async fn try_generate(&self, replica: usize, body: Value) -> Option<Reply> {
        try_reply(self.request(replica, "/v1/images/generations", &body)).await.ok()
    }

    /// POSTs JSON to a replica.
    pub async fn post(&self, replica: usize, path: &str, body: Value) -> Reply {
        reply(self.request(replica, path, &body)).await
    }

    /// GETs JSON from a replica.
    pub async fn get(&self, replica: usize, path: &str) -> Reply {
        reply(self.client.get(format!("{}{path}", self.replicas[replica].gateway.url))).await
    }

    fn request(&self, replica: usize, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.replicas[replica].gateway.url);
        self.client.post(url).header("content-type", "application/json").body(body.to_string())
    }

    /// The invoice book: its lines.
    pub async fn book(&self) -> Vec<Value> {
        self.sandbox.book(&self.client).await
    }

    /// The sandbox's statistics.
    pub async fn stats(&self) -> Value {
        self.sandbox.stats(&self.client).await
    }

    /// Waits until `condition` holds for the sandbox's statistics. Bounded by 30 s.
    pub async fn until(&self, condition: impl Fn(&Value) -> bool) {
        self.sandbox.until(&self.client, condition).await;
    }

    /// Sums of the ledger as the operator sees them, with no replica between.
    pub fn ledger(&self) -> Value {
        let (code, out, err) = self.run(&["ledger", "--json"]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).expect("the ledger is JSON")
    }

    /// Waits until `condition` holds for the ledger: what a replica leaves behind is found by another after a while.
    /// Bounded by 30 s.
    pub async fn until_ledger(&self, condition: impl Fn(&Value) -> bool) {
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while !condition(&self.ledger()) {
            assert!(tokio::time::Instant::now() < end, "it never came to be: {}", self.ledger());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Runs a command line of the binary as the operator: its exit code, stdout and stderr.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = binary(&self.operator());
        command.args(arguments).envs(self.s3_environment(None));
        outcome(command)
    }

    /// `kill -9` of a replica.
    pub fn kill(&mut self, replica: usize) {
        self.replicas[replica].gateway.kill();
    }

    /// `kill -STOP`: the replica does nothing, and its connections stand.
    pub fn stop(&mut self, replica: usize) {
        self.signal(replica, "-STOP");
    }

    /// `kill -CONT`: it goes on where it was.
    pub fn resume(&mut self, replica: usize) {
        self.signal(replica, "-CONT");
    }

    /// Waits until a replica has ended or stands still: a failpoint does so. Bounded by 30 s.
    pub async fn until_down(&mut self, replica: usize) {
        let child = &mut self.replicas[replica].gateway.child;
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
            if state == Some('T') || child.try_wait().expect("it is ours").is_some() {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "replica {replica} goes on");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Starts a replica again on its data, after it was killed or while it runs. Its address is a new one.
    pub fn restart(&mut self, replica: usize) {
        let replica = &mut self.replicas[replica];
        replica.gateway.kill();
        replica.gateway = serve(&replica.folder, &replica.environment);
    }

    /// For the one kind of test in which the ledger cannot know what the book knows.
    pub fn leave_unaudited(&mut self) {
        self.audited = true;
    }

    fn signal(&mut self, replica: usize, signal: &str) {
        let child = &mut self.replicas[replica].gateway.child;
        assert!(child.try_wait().is_ok_and(|ended| ended.is_none()), "replica {replica} has ended");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} to replica {replica}");
    }

    /// Where the operator's configuration is.
    fn operator(&self) -> PathBuf {
        self.folder.0.join("operator")
    }

    /// A replica's ways to the engines.
    fn proxies(&self) -> Proxies {
        Proxies {
            postgres: Proxy::to(self.postgres.address()),
            redis: self.redis.as_ref().map(|redis| Proxy::to(redis.address())),
            s3: self.s3.as_ref().map(|s3| Proxy::to(s3.address())),
        }
    }

    /// What a process needs to find the bucket.
    fn s3_environment(&self, proxies: Option<&Proxies>) -> Vec<(String, String)> {
        let Some(s3) = &self.s3 else { return Vec::new() };
        let proxy = proxies.and_then(|proxies| proxies.s3.as_ref());
        s3.environment_at(proxy.map_or(s3.address(), Proxy::address))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.audited || std::thread::panicking() {
            return;
        }
        // What is still under way would be in one of the two and not yet in the other.
        for replica in &mut self.replicas {
            replica.gateway.kill();
        }
        books::audit(&self.sandbox, || self.run(books::EVENTS));
    }
}

fn serve(folder: &Path, environment: &[(String, String)]) -> Server {
    let mut command = binary(folder);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Server::start(command)
}
