//! The invoice book: every billed request, one JSON line each, on disk before its answer leaves.
//!
//! One thread owns the file. It takes all the lines that wait, writes them with one `write`, makes them durable with
//! one `fdatasync`, and only then lets their answers go. The order of the file is the order of the sequence numbers.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::money::Usd;
use crate::price::Usage;

/// The most lines that share one `fdatasync`. Bounds the wait of the first of them.
const GROUP: usize = 1024;

/// What is billed, before the book gives it a number and a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// The simulated provider: `openai`, `compatible` or `native`.
    pub provider: String,
    /// The bearer token of the request as it was sent, or `anonymous`.
    pub account: String,
    /// The model as it was asked for.
    pub model: String,
    /// `generate` or `edit`.
    pub operation: String,
    /// Pictures billed, 1 to 10.
    pub n: u32,
    /// Size in pixels, `WIDTHxHEIGHT`.
    pub size: String,
    /// The quality that was drawn; `null` where the provider knows none.
    pub quality: Option<String>,
    /// What the request costs, all its pictures together.
    pub usd: Usd,
    /// The tokens behind the price; `null` for flat prices.
    pub usage: Option<Usage>,
    /// The request header `x-client-request-id`, if it was sent.
    pub attempt: Option<String>,
    /// The whole prompt, directives included.
    pub prompt: String,
}

/// One line of the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The invoice's number: 1, 2, 3 … without gaps, across restarts.
    pub seq: u64,
    /// When it was billed, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// What was billed.
    #[serde(flatten)]
    pub invoice: Invoice,
}

/// The sums of a book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Number of billed requests.
    pub count: u64,
    /// Number of billed pictures.
    pub pictures: u64,
    /// All the money billed.
    pub billed_usd: Usd,
}

impl Totals {
    /// The sums of some lines.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Self {
        let mut totals = Self::default();
        for line in lines {
            totals.add(&line.invoice);
        }
        totals
    }

    fn add(&mut self, invoice: &Invoice) {
        self.count += 1;
        self.pictures += u64::from(invoice.n);
        self.billed_usd = self.billed_usd + invoice.usd;
    }
}

/// Why a book cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file system said no.
    #[error("invoice book {}: {source}", path.display())]
    Io {
        /// The book's file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A complete line is no invoice, or out of sequence. The book is left as it is.
    #[error("invoice book {}: line {line} is not invoice number {line}: {reason}", path.display())]
    Corrupt {
        /// The book's file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Another sandbox writes this book: two writers would both hand out the same numbers.
    #[error("invoice book {} is in use by another sandbox; give each its own file", .0.display())]
    InUse(PathBuf),
    /// The line could not be made durable, so nothing was billed.
    #[error("the invoice could not be written: {0}")]
    NotWritten(String),
    /// The book was closed: the sandbox is stopping.
    #[error("the invoice book is closed")]
    Closed,
}

/// An open invoice book. Cheap to share by reference; all methods take `&self`.
#[derive(Debug)]
pub struct Book {
    orders: mpsc::Sender<Order>,
    path: Option<PathBuf>,
    kept: Arc<Mutex<Kept>>,
}

/// What is known of the book without reading the file.
#[derive(Debug, Default)]
struct Kept {
    totals: Totals,
    /// The lines themselves, only for a book without a file: a long load test must not grow the memory.
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Order {
    Bill(Box<Invoice>, oneshot::Sender<Result<u64, BookError>>),
    Close(oneshot::Sender<()>),
}

impl Book {
    /// Opens the book in that file, creating it when absent, or keeps one in memory when `path` is `None`.
    ///
    /// A torn last line, left by a crash, was never answered: it is cut off. With `durable` false, lines are written
    /// but not fsynced: they outlive the process, not a power cut.
    ///
    /// # Errors
    /// When the file cannot be opened, is corrupt in the middle, or belongs to another running sandbox.
    pub fn open(path: Option<&Path>, durable: bool) -> Result<Self, BookError> {
        let mut kept = Kept::default();
        let mut ledger = None;
        if let Some(path) = path {
            let (file, lines) = open_file(path)?;
            kept.totals = Totals::of(&lines);
            let length = file.metadata().map_err(|source| io_error(path, source))?.len();
            ledger = Some(Ledger { file, length, durable, dirty: false });
        }
        let kept = Arc::new(Mutex::new(kept));
        let (orders, queue) = mpsc::channel();
        let writer = Writer { ledger, kept: Arc::clone(&kept) };
        std::thread::Builder::new()
            .name("invoice-book".into())
            .spawn(move || writer.run(&queue))
            .map_err(|source| io_error(path.unwrap_or(Path::new("(memory)")), source))?;
        Ok(Self { orders, path: path.map(Path::to_owned), kept })
    }

    /// Bills a request and returns its number once the line is durable. The line is written even when the caller
    /// stops waiting: a provider does not forget a bill because the connection broke.
    ///
    /// # Errors
    /// When the line could not be written; then it is not billed.
    pub async fn bill(&self, invoice: Invoice) -> Result<u64, BookError> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order::Bill(Box::new(invoice), done)).map_err(|_| BookError::Closed)?;
        answer.await.map_err(|_| BookError::Closed)?
    }

    /// The sums of all that was ever billed in this book.
    pub fn totals(&self) -> Totals {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).totals
    }

    /// Every line of this book, in order. Reads the whole file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn lines(&self) -> Result<Vec<Line>, BookError> {
        match &self.path {
            Some(path) => Self::read(path),
            None => Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()),
        }
    }

    /// Every complete line of the book in that file, which may be in use; a torn last line is left out.
    ///
    /// # Errors
    /// When the file cannot be read or is corrupt in the middle.
    pub fn read(path: impl AsRef<Path>) -> Result<Vec<Line>, BookError> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(|source| io_error(path, source))?;
        parse(path, &text).map(|(lines, _)| lines)
    }

    /// Closes the file after the lines that wait. Afterwards another sandbox can open it.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.orders.send(Order::Close(done)).is_ok() {
            // An error means that the writer is gone already, which is what was asked for.
            let _ = closed.await;
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> BookError {
    BookError::Io { path: path.to_owned(), source }
}

/// Opens and locks the file, reads it, and cuts off a torn last line.
fn open_file(path: &Path) -> Result<(File, Vec<Line>), BookError> {
    let fail = |source| io_error(path, source);
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fail)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => BookError::InUse(path.to_owned()),
        TryLockError::Error(source) => fail(source),
    })?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(fail)?;
    let (lines, whole) = parse(path, &text)?;
    if whole < text.len() {
        file.set_len(whole as u64).map_err(fail)?;
    }
    Ok((file, lines))
}

/// The lines of a book's text, and the length in bytes of its complete lines.
fn parse(path: &Path, text: &[u8]) -> Result<(Vec<Line>, usize), BookError> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = Vec::new();
    for (index, row) in text[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let corrupt = |reason| BookError::Corrupt { path: path.to_owned(), line: number, reason };
        let line: Line = serde_json::from_slice(row).map_err(|error| corrupt(error.to_string()))?;
        if line.seq != number as u64 {
            return Err(corrupt(format!("its number is {}", line.seq)));
        }
        lines.push(line);
    }
    Ok((lines, whole))
}

/// The thread that owns the file.
struct Writer {
    ledger: Option<Ledger>,
    kept: Arc<Mutex<Kept>>,
}

/// The file, and how much of it holds acknowledged lines.
struct Ledger {
    file: File,
    length: u64,
    durable: bool,
    /// A failed write may have left bytes behind `length`.
    dirty: bool,
}

type Waiting = (Line, oneshot::Sender<Result<u64, BookError>>);

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Order>) {
        let mut seq = self.kept.lock().unwrap_or_else(PoisonError::into_inner).totals.count;
        while let Ok(first) = queue.recv() {
            let mut closing = None;
            let mut group: Vec<Waiting> = Vec::new();
            let mut next = Some(first);
            while let Some(order) = next.take() {
                match order {
                    Order::Close(done) => closing = Some(done),
                    Order::Bill(invoice, done) => {
                        let seq = seq + 1 + group.len() as u64;
                        group.push((Line { seq, at: unix_millis(), invoice: *invoice }, done));
                    }
                }
                if closing.is_none() && group.len() < GROUP {
                    next = queue.try_recv().ok();
                }
            }
            seq += self.settle(group);
            if let Some(done) = closing {
                drop(self.ledger.take());
                // Nobody waiting for the close is fine.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Writes a group and releases its answers; returns how many lines were billed: all or none.
    fn settle(&mut self, group: Vec<Waiting>) -> u64 {
        let lines = group.iter().map(|(line, _)| line);
        let written = match &mut self.ledger {
            Some(ledger) => ledger.append(lines),
            None => Ok(()),
        };
        if let Err(error) = written {
            for (_, done) in group {
                // A caller that hung up needs no answer; here and below.
                let _ = done.send(Err(BookError::NotWritten(error.to_string())));
            }
            return 0;
        }
        let billed = group.len() as u64;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = Vec::with_capacity(group.len());
        for (line, done) in group {
            kept.totals.add(&line.invoice);
            answers.push((line.seq, done));
            if self.ledger.is_none() {
                kept.lines.push(line);
            }
        }
        // Totals first, answers second: whoever has an answer finds it in the totals.
        drop(kept);
        for (seq, done) in answers {
            let _ = done.send(Ok(seq));
        }
        billed
    }
}

impl Ledger {
    fn append<'a>(&mut self, lines: impl Iterator<Item = &'a Line>) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.mend()?;
        self.dirty = true;
        let written =
            self.file.write_all(&text).and_then(|()| if self.durable { self.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => {
                self.length += text.len() as u64;
                self.dirty = false;
            }
            Err(_) => self.mend()?,
        }
        written
    }

    /// Cuts off what was half written: it was not billed, so it must not stand in the book.
    fn mend(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.length)?;
            self.dirty = false;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the provider's own clock: no test may move when it says it billed")]
fn unix_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoice(prompt: &str) -> Invoice {
        Invoice {
            provider: "openai".into(),
            account: "sk-test".into(),
            model: "gpt-image-2".into(),
            operation: "generate".into(),
            n: 2,
            size: "1024x1024".into(),
            quality: Some("low".into()),
            usd: "0.01176".parse().unwrap(),
            usage: Some(Usage::new(3, 0, 392)),
            attempt: None,
            prompt: prompt.into(),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sandbox-book-{}-{name}.jsonl", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[tokio::test]
    async fn a_reopened_book_continues_its_numbers() {
        let path = scratch("reopen");
        let book = Book::open(Some(&path), true).unwrap();
        assert_eq!(book.bill(invoice("one\ntwo")).await.unwrap(), 1);
        assert_eq!(book.bill(invoice("three")).await.unwrap(), 2);
        assert!(matches!(Book::open(Some(&path), true), Err(BookError::InUse(_))));
        book.close().await;
        assert!(matches!(book.bill(invoice("late")).await, Err(BookError::Closed)));

        let book = Book::open(Some(&path), true).unwrap();
        assert_eq!(book.totals().count, 2);
        assert_eq!(book.bill(invoice("four")).await.unwrap(), 3);
        let lines = Book::read(&path).unwrap();
        assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(lines[0].invoice, invoice("one\ntwo"));
        assert_eq!(Totals::of(&lines), book.totals());
        assert_eq!(book.totals().billed_usd.to_string(), "0.03528");
        book.close().await;
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_torn_last_line_is_cut_off_and_a_torn_middle_is_an_error() {
        let path = scratch("torn");
        let book = Book::open(Some(&path), false).unwrap();
        book.bill(invoice("kept")).await.unwrap();
        book.close().await;
        let whole = std::fs::read(&path).unwrap();

        let mut torn = whole.clone();
        torn.extend_from_slice(&whole[..whole.len() / 2]);
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(Book::read(&path).unwrap().len(), 1);
        let book = Book::open(Some(&path), false).unwrap();
        assert_eq!(book.bill(invoice("next")).await.unwrap(), 2);
        book.close().await;
        assert_eq!(Book::read(&path).unwrap().len(), 2);

        let mut broken = whole[..whole.len() / 2].to_vec();
        broken.push(b'\n');
        broken.extend_from_slice(&whole);
        std::fs::write(&path, &broken).unwrap();
        assert!(matches!(Book::open(Some(&path), false), Err(BookError::Corrupt { line: 1, .. })));
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_bill_stands_when_nobody_waits_for_it() {
        let book = Book::open(None, true).unwrap();
        let mut bill = Box::pin(book.bill(invoice("left alone")));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = bill.as_mut().poll(&mut context);
        drop(bill);
        assert_eq!(book.bill(invoice("next")).await.unwrap(), 2);
        assert_eq!(book.totals().count, 2);
        assert_eq!(book.lines().unwrap().len(), 2);
    }
}
