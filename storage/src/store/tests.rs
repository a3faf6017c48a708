use tidegate_types::{PartitionIndex, TopicName};

use super::*;
use crate::io::{Faulty, RealIo};

fn tp(topic: &str) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: PartitionIndex::new(0) }
}

/// A promise: two processes never share a data directory, and the second is told so.
#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Store::open(Arc::new(RealIo), directory.path(), NodeId::new(1), Uuid::new_v4());
    let first = open().unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("another process has it open"), "{error}");
    let id = first.identity().directory_id;
    drop(first);
    assert_eq!(open().unwrap().identity().directory_id, id, "an identity is drawn once");
}

/// A promise: a directory of another node, version or cluster is not touched.
#[test]
fn a_foreign_directory_is_refused() {
    let io: Arc<dyn Io> = Arc::new(Faulty::new());
    let root = Path::new("/data");
    let open = |node| Store::open(Arc::clone(&io), root, NodeId::new(node), Uuid::nil());
    let cluster = ClusterId::new(Uuid::from_u128(7));
    open(1).unwrap().join_cluster(cluster).unwrap();
    assert!(open(2).unwrap_err().to_string().contains("node 1, not to node 2"));
    let store = open(1).unwrap();
    assert_eq!(store.identity().cluster_id, Some(cluster));
    assert!(store.join_cluster(ClusterId::new(Uuid::nil())).is_err());
    drop(store);
    for (bad, why) in
        [("tidegate.format=99\n", "version is 99"), ("garbage", "no format version"), ("tidegate.format=1\n", "an id is missing")]
    {
        write_atomically(io.as_ref(), &root.join("meta.properties"), bad.as_bytes()).unwrap();
        let error = open(1).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// A promise: a topic that is deleted and made again under the same name starts empty, and the bytes on disk say whose they are.
#[test]
fn a_topic_of_the_same_name_is_another_topic() {
    let io: Arc<dyn Io> = Arc::new(Faulty::new());
    let store = Store::open(Arc::clone(&io), Path::new("/data"), NodeId::new(1), Uuid::nil()).unwrap();
    let long = "x".repeat(249);
    for name in ["orders", long.as_str()] {
        let (first, second) = (TopicId::new(Uuid::from_u128(1)), TopicId::new(Uuid::from_u128(2)));
        store.open_log(&tp(name), first, &TopicConfig::default()).unwrap();
        let metadata = Path::new("/data").join(tp(name).to_string()).join("partition.metadata");
        assert_eq!(read_small(io.as_ref(), &metadata).unwrap().unwrap(), b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n");
        store.open_log(&tp(name), second, &TopicConfig::default()).unwrap();
        assert_eq!(store.partition_directories().unwrap(), [tp(name).to_string()]);
        store.remove_log(&tp(name)).unwrap();
        store.remove_log(&tp(name)).unwrap();
        assert!(store.partition_directories().unwrap().is_empty());
    }
}
