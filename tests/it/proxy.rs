//! A TCP proxy that breaks, holds up and delays connections to an engine.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::engines::free_port;

/// A proxy on a port of its own, until it is dropped. Each change holds when its method returns.
///
/// It runs in a thread of its own: a test that waits for a process does not hold it up.
pub struct Proxy {
    address: SocketAddr,
    orders: mpsc::UnboundedSender<(Order, SyncSender<()>)>,
}

enum Order {
    Cut,
    Pass(Way),
}

/// How what arrives is passed on.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Each piece so much later than it came.
    After(Duration),
    /// Not before something else is said.
    Never,
}

const AT_ONCE: Way = Way::After(Duration::ZERO);

impl Proxy {
    /// Passes everything on to `to`.
    pub fn to(to: SocketAddr) -> Proxy {
        let listener = loop {
            // Somebody else may take the port between.
            if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", free_port())) {
                break listener;
            }
        };
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let (orders, received) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { serve(TcpListener::from_std(listener).expect("a listener"), to, received).await });
        });
        Proxy { address, orders }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections and refuses new ones.
    pub fn cut(&self) {
        self.order(Order::Cut);
    }

    /// Takes connections and passes nothing on, either way, from now on.
    pub fn stall(&self) {
        self.order(Order::Pass(Way::Never));
    }

    /// Passes each piece (of at most 64 KiB) on so many milliseconds later than it came, either way.
    pub fn delay(&self, milliseconds: u64) {
        self.order(Order::Pass(Way::After(Duration::from_millis(milliseconds))));
    }

    /// Everything passes at once again, also what was held up.
    pub fn mend(&self) {
        self.order(Order::Pass(AT_ONCE));
    }

    fn order(&self, order: Order) {
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        assert!(self.orders.send((order, done)).is_ok(), "the proxy runs");
        is_done.recv().expect("the proxy obeys");
    }
}

/// Carries out orders and takes connections, until nobody can give orders any more.
async fn serve(listener: TcpListener, to: SocketAddr, mut orders: mpsc::UnboundedReceiver<(Order, SyncSender<()>)>) {
    let address = listener.local_addr().expect("it is bound");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let way = watch::Sender::new(AT_ONCE);
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::Cut => {
                        listener = None;
                        connections.shutdown().await;
                    }
                    Order::Pass(next) => {
                        way.send_replace(next);
                        if listener.is_none() {
                            listener = Some(TcpListener::bind(address).await.expect("nobody else took the port"));
                        }
                    }
                }
                let _ = done.send(());
            }
            accepted = accept(listener.as_ref()) => {
                if let Ok(client) = accepted {
                    connections.spawn(connect(client, to, way.subscribe()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next client; never if nobody listens.
async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// One connection, until both sides have ended theirs or one breaks.
async fn connect(client: TcpStream, to: SocketAddr, way: watch::Receiver<Way>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(pass(from_client, to_server, way.clone()), pass(from_server, to_client, way))?;
    Ok(())
}

/// Passes on what one side says, and then that it has ended.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        let now = *way.borrow_and_update();
        if let Way::After(delay) = now {
            tokio::time::sleep(delay).await;
        }
        // What was said meanwhile holds for this piece, too.
        if way.wait_for(|way| *way != Way::Never).await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// A server that says everything back, until the test ends.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn say(stream: &mut TcpStream, text: &str) -> String {
        stream.write_all(text.as_bytes()).await.unwrap();
        hear(stream, text.len()).await
    }

    async fn hear(stream: &mut TcpStream, length: usize) -> String {
        let mut heard = vec![0; length];
        stream.read_exact(&mut heard).await.unwrap();
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn what_is_whole_passes_and_ends() {
        let proxy = Proxy::to(echo().await);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let text = "kite ".repeat(100_000);
        let (mut from, mut to) = client.split();
        let mut heard = String::new();
        let sending = async {
            to.write_all(text.as_bytes()).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let ((), length) = tokio::join!(sending, from.read_to_string(&mut heard));
        assert_eq!((length.unwrap(), heard), (text.len(), text));
    }

    #[tokio::test]
    async fn a_cut_breaks_and_refuses_until_it_is_mended() {
        let proxy = Proxy::to(echo().await);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut client, "kite").await, "kite");
        proxy.cut();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "broken");
        assert!(TcpStream::connect(proxy.address()).await.is_err(), "refused");
        proxy.mend();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut client, "kite").await, "kite");
    }

    #[tokio::test]
    async fn what_is_held_up_passes_when_it_is_mended() {
        let proxy = Proxy::to(echo().await);
        let mut before = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut before, "kite").await, "kite");
        proxy.stall();
        let mut after = TcpStream::connect(proxy.address()).await.unwrap();
        for client in [&mut before, &mut after] {
            let answer = say(client, "held");
            assert!(timeout(Duration::from_millis(100), answer).await.is_err(), "held up");
        }
        proxy.mend();
        for client in [&mut before, &mut after] {
            assert_eq!(hear(client, 4).await, "held");
        }
    }

    #[tokio::test]
    async fn a_delay_holds_for_both_ways() {
        let proxy = Proxy::to(echo().await);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.delay(60);
        let asked = Instant::now();
        assert_eq!(say(&mut client, "late").await, "late");
        assert!(asked.elapsed() >= Duration::from_millis(120), "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn it_ends_when_it_is_dropped() {
        let proxy = Proxy::to(echo().await);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut client, "kite").await, "kite");
        let address = proxy.address();
        drop(proxy);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
