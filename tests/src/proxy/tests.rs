//! Each fate in front of a node that keeps what it heard, and answers with how many requests it had heard by then.

use std::time::{Duration, Instant};

use super::*;
use tokio::io::AsyncWriteExt;
use wire::Side;

const LONG: Duration = Duration::from_secs(20);

/// What came in, in this order: the connection's number, and the body; `None` is a connection that ended within a request.
type Heard = Vec<(usize, Option<String>)>;

struct Node {
    address: SocketAddr,
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, sender) = (listener.local_addr().unwrap(), watch::Sender::<Heard>::default());
        let heard = sender.subscribe();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(answer_all(Side::new(stream), number, sender.clone()));
            }
        });
        Self { address, heard, task }
    }

    /// Waits until it has heard so much.
    async fn heard(&self, count: usize) -> Heard {
        let mut heard = self.heard.clone();
        let heard = tokio::time::timeout(LONG, heard.wait_for(|heard| heard.len() >= count)).await;
        heard.expect("nothing more is heard").unwrap().clone()
    }

    async fn bodies(&self, count: usize) -> Vec<String> {
        self.heard(count).await.into_iter().map(|(_, body)| body.expect("whole")).collect()
    }
}

async fn answer_all(mut side: Side, connection: usize, heard: watch::Sender<Heard>) {
    loop {
        let body = match side.message().await {
            Ok(Some(request)) => Some(body_of(&request.bytes)),
            Err(_) if side.is_within_message() => None,
            Ok(None) | Err(_) => return,
        };
        let is_whole = body.is_some();
        let mut count = 0;
        heard.send_modify(|heard| {
            heard.push((connection, body));
            count = heard.len();
        });
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{count:010}");
        if !is_whole || side.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn body_of(message: &[u8]) -> String {
    let text = String::from_utf8(message.to_vec()).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// One who asks, over one connection as long as that holds.
struct Asker(Side);

impl Asker {
    async fn new(proxy: &Proxy) -> Self {
        Self(Side::new(TcpStream::connect(proxy.address()).await.unwrap()))
    }

    /// What the node answers: how many requests it had heard.
    async fn ask(&mut self, body: &str) -> anyhow::Result<usize> {
        let request = format!("POST /x HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.0.stream.write_all(request.as_bytes()).await?;
        let answer = self.0.message().await?.context("no answer")?;
        Ok(body_of(&answer.bytes).parse()?)
    }
}

async fn ask(proxy: &Proxy, body: &str) -> anyhow::Result<usize> {
    Asker::new(proxy).await.ask(body).await
}

async fn start(faults: Faults) -> (Node, Proxy) {
    let node = Node::start().await;
    let proxy = Proxy::start(node.address, 5).await.unwrap();
    proxy.set_faults(faults);
    (node, proxy)
}

/// A promise: what is dropped never reaches the node; of what is cut it sees a part and no more.
#[tokio::test]
async fn requests_break() {
    let (node, proxy) = start(Faults { dropped: 1_000, ..Faults::default() }).await;
    assert!(ask(&proxy, "dropped").await.is_err());
    proxy.set_faults(Faults { cut_requests: 1_000, ..Faults::default() });
    assert!(ask(&proxy, "this is cut").await.is_err());
    assert_eq!(node.heard(1).await, [(0, None)], "a part of the second");
    let counts = proxy.counts();
    assert_eq!((counts.dropped, counts.cut_requests, counts.broken(), counts.requests, counts.answers), (1, 1, 2, 2, 0));
}

/// A promise: an answer that is lost, or cut, belongs to a request that the node has heard.
#[tokio::test]
async fn answers_break() {
    let (node, proxy) = start(Faults { lost_answers: 1_000, ..Faults::default() }).await;
    assert!(ask(&proxy, "a").await.is_err());
    assert_eq!(node.bodies(1).await, ["a"]);
    proxy.set_faults(Faults { cut_answers: 1_000, ..Faults::default() });
    assert!(ask(&proxy, "b").await.is_err());
    assert_eq!(node.bodies(2).await, ["a", "b"]);
    assert_eq!((proxy.counts().lost_answers, proxy.counts().cut_answers, proxy.counts().answers), (1, 1, 0));
}

/// A promise: of a duplicate the node hears both, over two connections; its client hears one answer, now the one, now the other, and goes on.
#[tokio::test]
async fn duplicates_come_twice() {
    const COUNT: usize = 40;
    let (node, proxy) = start(Faults { duplicated: 1_000, ..Faults::default() }).await;
    let mut asker = Asker::new(&proxy).await;
    let mut answers = [0, 0];
    for number in 0..COUNT {
        let heard = asker.ask(&format!("{number}")).await.unwrap();
        let both = node.heard(2 * number + 2).await;
        let [first, second] = &both[2 * number..] else { panic!("{both:?}") };
        assert_ne!(first.0, second.0, "two connections");
        assert_eq!((&first.1, &second.1), (&Some(number.to_string()), &Some(number.to_string())));
        answers[heard - 2 * number - 1] += 1;
    }
    assert!(answers[0] > 0 && answers[1] > 0, "the first's and the second's answers: {answers:?}");
    let counts = proxy.counts();
    assert_eq!((counts.duplicated, counts.answers, counts.connections), (COUNT as u64, COUNT as u64, 1));
}

/// A promise: a late copy comes after its request was answered, from nobody.
#[tokio::test]
async fn late_copies_come_after_the_answer() {
    let late = Duration::from_millis(800);
    let (node, proxy) = start(Faults { late_copies: 1_000, late, ..Faults::default() }).await;
    let begun = Instant::now();
    assert_eq!(ask(&proxy, "a").await.unwrap(), 1);
    proxy.set_faults(Faults::default());
    assert_eq!(node.bodies(2).await, ["a", "a"]);
    assert!(begun.elapsed() >= late / 4, "{:?}", begun.elapsed());
    assert_eq!((proxy.counts().late_copies, proxy.counts().answers), (1, 1));
}

/// A promise: a late request comes to the node after its connection broke, and after its client has tried again; also to a node that has another port
/// by then, which a request of that time does not find.
#[tokio::test]
async fn late_requests_come_after_the_retry() {
    let (node, proxy) = start(Faults { late_requests: 1_000, late: Duration::from_secs(2), ..Faults::default() }).await;
    let mut asker = Asker::new(&proxy).await;
    assert!(asker.ask("late").await.is_err());
    proxy.set_faults(Faults::default());
    assert_eq!(ask(&proxy, "again").await.unwrap(), 1);
    proxy.unset_node();
    assert!(ask(&proxy, "to nobody").await.is_err());
    let other = Node::start().await;
    proxy.set_node(other.address);
    assert_eq!(other.bodies(1).await, ["late"]);
    assert_eq!(node.bodies(1).await, ["again"]);
    assert_eq!((proxy.counts().late_requests, proxy.counts().broken()), (1, 1));
}

/// A promise: a late answer comes to a client that waits long enough, on a connection that goes on; the node has heard the request at once.
#[tokio::test]
async fn late_answers_are_late() {
    let late = Duration::from_millis(300);
    let (node, proxy) = start(Faults { late_answers: 1_000, late, ..Faults::default() }).await;
    let mut asker = Asker::new(&proxy).await;
    let begun = Instant::now();
    let impatient = tokio::time::timeout(late / 10, asker.ask("a")).await;
    assert!(impatient.is_err() || begun.elapsed() >= late, "nothing is heard before its time");
    node.heard(1).await;
    let begun = Instant::now();
    let mut asker = Asker::new(&proxy).await;
    assert_eq!(asker.ask("b").await.unwrap(), 2);
    assert!(begun.elapsed() >= late, "{:?}", begun.elapsed());
    proxy.set_faults(Faults::default());
    assert_eq!(asker.ask("c").await.unwrap(), 3);
}

/// A promise: a request that is held back is overtaken by later ones, and by none if none come, when its time is over.
#[tokio::test]
async fn held_back_requests_are_overtaken() {
    let (node, proxy) = start(Faults { held_back: 1_000, hold: LONG, ..Faults::default() }).await;
    let held = async { ask(&proxy, "held").await.unwrap() };
    let overtaking = async {
        while proxy.counts().held_back == 0 {
            tokio::task::yield_now().await;
        }
        proxy.set_faults(Faults::default());
        for _ in 0..OVERTAKERS {
            ask(&proxy, "later").await.unwrap();
        }
    };
    let (place, ()) = tokio::join!(held, overtaking);
    assert!(place > 1, "{:?}", node.heard(1).await);
    assert_eq!((proxy.counts().held_back, proxy.counts().overtaken), (1, 1));
    proxy.set_faults(Faults { held_back: 1_000, hold: Duration::from_millis(50), ..Faults::default() });
    ask(&proxy, "alone").await.unwrap();
    assert_eq!((proxy.counts().held_back, proxy.counts().overtaken), (2, 1));
}

/// A promise: while the node is gone connections are refused, and afterwards the same port answers again.
#[tokio::test]
async fn a_gone_node_refuses() {
    let (_node, proxy) = start(Faults::default()).await;
    let mut asker = Asker::new(&proxy).await;
    assert_eq!(asker.ask("a").await.unwrap(), 1);
    for turn in 0..3 {
        proxy.set_gone(true).await.unwrap();
        assert!(asker.ask("b").await.is_err());
        let error = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.set_gone(false).await.unwrap();
        asker = Asker::new(&proxy).await;
        assert_eq!(asker.ask("c").await.unwrap(), turn + 2);
    }
}
