use std::sync::Arc;

use futures::FutureExt;

use super::*;

fn record(name: &str) -> Key {
    Key::Record(name.to_owned())
}

fn request(name: &str) -> Key {
    Key::Request {
        cpid: "c".into(),
        name: name.into(),
    }
}

#[tokio::test]
async fn a_key_waits_once_and_requests_go_first() {
    let queue = Queue::default();
    queue.extend([record("b"), record("a"), record("b"), request("r")]);
    for expected in [request("r"), record("a"), record("b")] {
        assert_eq!(queue.next().await, expected);
        queue.done(&expected, None);
    }
    assert!(queue.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_key_is_never_worked_on_twice_at_a_time() {
    let queue = Queue::default();
    queue.add(request("a"));
    let key = queue.next().await;
    queue.add(request("a"));
    assert!(queue.next().now_or_never().is_none());
    queue.done(&key, Some(Duration::from_mins(1)));
    assert_eq!(queue.next().now_or_never(), Some(request("a")));
}

#[tokio::test(start_paused = true)]
async fn a_record_rests_between_two_looks_whenever_it_is_added() {
    let queue = Queue::default();
    queue.add(record("a"));
    let key = queue.next().await;
    queue.add(record("a"));
    let before = Instant::now();
    queue.done(&key, None);
    queue.add(record("a"));
    queue.add(record("b"));
    assert_eq!(queue.next().now_or_never(), Some(record("b")));
    assert_eq!(queue.next().await, record("a"));
    assert!(before.elapsed() >= REPORT_PAUSE && before.elapsed() < REPORT_PAUSE * 2);
    queue.done(&key, None);
    let waited = tokio::time::timeout(Duration::from_mins(1), queue.next()).await;
    assert!(waited.is_err(), "it came again although nothing was added");
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_again_when_it_asked_to_unless_it_is_added_sooner() {
    let queue = Queue::default();
    queue.add(record("a"));
    let key = queue.next().await;
    queue.done(&key, Some(Duration::from_mins(1)));
    let before = Instant::now();
    assert_eq!(queue.next().await, record("a"));
    assert_eq!(before.elapsed().as_secs(), 60);
    queue.done(&key, Some(Duration::from_mins(1)));
    queue.add(record("a"));
    let key = queue.next().await;
    queue.done(&key, None);
    let waited = tokio::time::timeout(Duration::from_mins(10), queue.next()).await;
    assert!(
        waited.is_err(),
        "what was asked for later came although it came sooner"
    );
}

#[tokio::test]
async fn every_worker_finds_its_key() {
    let queue = Arc::new(Queue::default());
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let key = queue.next().await;
                // Nobody is done until everybody has one.
                tokio::time::sleep(Duration::from_millis(50)).await;
                queue.done(&key, None);
                key
            })
        })
        .collect();
    tokio::task::yield_now().await;
    queue.extend(["a", "b", "c", "d"].map(record));
    let mut keys = Vec::new();
    for worker in workers {
        let key = tokio::time::timeout(Duration::from_secs(5), worker).await;
        keys.push(key.expect("a worker waits although there is a key").unwrap());
    }
    keys.sort();
    assert_eq!(keys, ["a", "b", "c", "d"].map(record));
}
