//! The oracle of every money test: a simulated provider with an invoice book, and the ledger held against it (I6).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use mimeo::domain::Usd;
use serde_json::Value;

use crate::world::{BINARY, Server, reply, reqwest_client};

/// The command that lists what [`audit`] reads.
pub const EVENTS: &[&str] = &["ledger", "events", "--limit", "4000000000", "--json"];

/// A sandbox process with its invoice book.
pub struct Sandbox {
    pub url: String,
    _server: Server,
}

impl Sandbox {
    /// Starts one whose book is in `folder`.
    pub fn start(folder: &Path) -> Sandbox {
        let mut command = Command::new(BINARY);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--book"]).arg(folder.join("book.jsonl"));
        let server = Server::start(command);
        Sandbox { url: server.url.clone(), _server: server }
    }

    /// Configuration that has the providers `openai`, `compatible` and `sandbox`, all simulated, and `more`.
    /// `{sandbox}` in it stands for the sandbox's address.
    pub fn providers_and(&self, more: &str) -> String {
        let config = format!(
            "[providers.openai]\nbase_url = '{{sandbox}}/openai/v1'\n\
             [providers.compatible]\nrecord = 'openai-compatible'\nbase_url = '{{sandbox}}/compatible/v1'\n\
             prices = {{ usd_per_image = '0.01' }}\n\
             [providers.sandbox]\nbase_url = '{{sandbox}}/native/v1'\n\
             {more}"
        );
        config.replace("{sandbox}", &self.url)
    }

    /// The invoice book: its lines.
    pub async fn book(&self, client: &reqwest::Client) -> Vec<Value> {
        let book = reply(client.get(format!("{}/control/book", self.url))).await.expect(200).body;
        book["lines"].as_array().expect("the book has lines").clone()
    }

    /// The sandbox's statistics.
    pub async fn stats(&self, client: &reqwest::Client) -> Value {
        reply(client.get(format!("{}/control/stats", self.url))).await.expect(200).body
    }

    /// Has the next call meet `fault`, as a directive of a prompt names it.
    pub async fn fail_next(&self, client: &reqwest::Client, fault: &str) {
        let script = format!("{{\"faults\":[{{\"fault\":\"{fault}\"}}]}}");
        let request = client.post(format!("{}/control/faults", self.url)).header("content-type", "application/json");
        reply(request.body(script)).await.expect(200);
    }

    /// Waits until `condition` holds for the statistics. Bounded by 30 s.
    pub async fn until(&self, client: &reqwest::Client, condition: impl Fn(&Value) -> bool) {
        for _ in 0..3000 {
            if condition(&self.stats(client).await) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it never came to be: {}", self.stats(client).await);
    }
}

/// I6: every invoice of the sandbox is in the ledger with its exact amount, and nothing else is. `events` runs the
/// command [`EVENTS`]: its exit code, stdout and stderr.
///
/// For destructors: it has a runtime of its own, because the test's may be the one that runs the destructor.
pub fn audit(sandbox: &Sandbox, events: impl FnOnce() -> (i32, String, String) + Send) {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let book = runtime.block_on(async { sandbox.book(&reqwest_client()).await });
        let (code, out, err) = events();
        if code != 0 && err.contains("no data folder") {
            assert!(book.is_empty());
            return;
        }
        assert_eq!(code, 0, "{err}");
        let events: Vec<Value> = serde_json::from_str(&out).expect("events are JSON");
        compare(&book, &events);
    };
    if let Err(panic) = std::thread::scope(|scope| scope.spawn(run).join()) {
        std::panic::resume_unwind(panic);
    }
}

/// What is known of one attempt.
#[derive(Default)]
struct Account {
    reserved: Usd,
    spent: Usd,
    suspense: Usd,
    ended: bool,
    /// What paid for it, if not money: `free` or `prepaid`.
    credit: Option<String>,
    saved: Usd,
}

/// Holds the ledger against the book, attempt by attempt.
fn compare(book: &[Value], events: &[Value]) {
    let usd = |value: &Value| value.as_str().expect("amounts are text").parse::<Usd>().expect("amounts are decimals");
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for event in events {
        let Some(attempt) = event["attempt"].as_str() else { continue };
        let account = accounts.entry(attempt.to_owned()).or_default();
        account.reserved += usd(&event["reserved_usd"]);
        account.spent += usd(&event["spent_usd"]);
        account.suspense += usd(&event["suspense_usd"]);
        account.ended |= event["kind"] != "reserve";
        account.saved += usd(&event["saved_usd"]);
        account.credit = event["layer"].as_str().map(str::to_owned).or(account.credit.take());
    }
    let mut billed: BTreeMap<String, Usd> = BTreeMap::new();
    for line in book {
        let attempt = line["attempt"].as_str().unwrap_or_else(|| panic!("an invoice without attempt: {line}"));
        *billed.entry(attempt.to_owned()).or_default() += usd(&line["usd"]);
    }
    for (attempt, usd) in &billed {
        let account =
            accounts.get(attempt).unwrap_or_else(|| panic!("{attempt} was billed ${usd} and is not in the ledger"));
        if let Some(credit) = &account.credit {
            // Credits paid: no money moved, and what was free is said to have saved its price.
            assert_eq!((account.spent, account.reserved, account.suspense), Default::default(), "{attempt}");
            let saved = if credit == "free" { *usd } else { Usd::ZERO };
            assert_eq!(account.saved, saved, "{attempt}: the book says what {credit} credits were drawn for");
        } else if account.ended && account.suspense.is_zero() {
            assert_eq!(account.spent, *usd, "{attempt}: the ledger and the book differ");
        } else {
            let held = account.reserved + account.suspense;
            assert!(held >= *usd, "{attempt}: ${held} is held for a bill of ${usd}");
        }
    }
    for (attempt, account) in &accounts {
        if !account.spent.is_zero() {
            assert!(billed.contains_key(attempt), "{attempt}: ${} in the ledger were never billed", account.spent);
        }
    }
}
