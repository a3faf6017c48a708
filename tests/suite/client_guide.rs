//! The guide's page on the Rust client: every block of code on it stands in this file, word for word, and so is compiled and run.

use std::collections::BTreeSet;

use tidegate_client::{Client, ConsumerConfig, Fetch, NewRecord, NewTopic, ProduceOptions, ProducerConfig, Until};
use tidegate_storage::io::Faulty;
use tidegate_tests::cluster::TestNode;
use tidegate_tests::oracle::root;
use tidegate_types::{Limits, SideEffects};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The address that the page calls the node by.
const ADDRESS: &str = "127.0.0.1:8080";

async fn one_call_at_a_time(client: &Client) -> Outcome {
    client.ensure_topic("orders", &NewTopic { partitions: Some(3), ..NewTopic::default() }).await?;
    let record = NewRecord::json(&serde_json::json!({"item": "tea"}))?.key("anna");
    let produced = client.produce("orders", &[record], &ProduceOptions::default()).await?;
    let at = &produced.results[0];
    let page = client.fetch("orders", at.partition, &Fetch::from_offset(at.offset)).await?;
    assert_eq!(page.records[0].value.as_bytes(), Some(&br#"{"item":"tea"}"#[..]));
    Ok(())
}

async fn what_a_failure_means(client: &Client) {
    let records = [NewRecord::text("a")];
    match client.produce("orders", &records, &ProduceOptions::default()).await {
        Ok(produced) => println!("{} records are in", produced.results.len()),
        Err(error) if error.side_effects() == SideEffects::None && error.is_retryable() => println!("send them again: {error}"),
        Err(error) if error.side_effects() == SideEffects::None => println!("correct them: {error}"),
        Err(error) => println!("they may be in; sent again they may be there twice: {error}"),
    }
}

async fn many_records_in(client: &Client) -> Outcome {
    let producer = client.producer().build()?;
    let mut deliveries = Vec::new();
    for n in 0..1_000 {
        // Waits only while the buffer is full.
        deliveries.push(producer.send("orders", NewRecord::text(n.to_string()).key(format!("customer {}", n % 10))).await?);
    }
    for delivery in deliveries {
        let position = delivery.await?; // Its record is on disk, there.
        assert!(position.partition < 3);
    }
    producer.close().await?;
    Ok(())
}

async fn an_exact_account(client: &Client) -> Outcome {
    let producer = client.producer().stop_at_failure(true).build()?;
    let mut open = Vec::new();
    for n in 0..100 {
        match producer.send_to("orders", 0, NewRecord::text(n.to_string())).await {
            Ok(delivery) => open.push((n, delivery)),
            Err(error) => println!("{n} was not taken: {error}"),
        }
    }
    for (n, delivery) in open {
        match delivery.await {
            Ok(position) => println!("{n} is in, at {}", position.offset),
            Err(error) if error.side_effects() == SideEffects::None => println!("{n} is not in: {error}"),
            Err(error) => println!("{n} may be in: {error}"),
        }
    }
    Ok(())
}

async fn many_records_out(client: &Client) -> Result<usize, Box<dyn std::error::Error>> {
    let mut consumer = client.consumer().topic("orders").until(Until::Latest).build().await?;
    let mut count = 0;
    while let Some(batch) = consumer.next().await? {
        for record in batch.iter() {
            count += usize::from(record.value.is_some());
        }
        let next = consumer.position(&batch.topic, batch.partition); // Keep it where you keep your results.
        assert!(next.is_some());
    }
    println!("{count} records");
    Ok(count)
}

/// A promise: the code on the page does what the page says, against a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_works() {
    let node = TestNode::start(Faulty::new(), Limits::default()).await.unwrap();
    let client = node.client().unwrap();
    one_call_at_a_time(&client).await.unwrap();
    what_a_failure_means(&client).await;
    many_records_in(&client).await.unwrap();
    an_exact_account(&client).await.unwrap();
    assert_eq!(many_records_out(&client).await.unwrap(), 1 + 1 + 1_000 + 100);
    node.stop().await.unwrap();
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/guide/client.md")).unwrap()
}

/// The text without the spaces around its lines and between them.
fn bare(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A promise: no code stands on the page that is not run here, but for the line that names the server.
#[test]
fn the_page_has_this_code() {
    let (page, here) = (page(), bare(include_str!("client_guide.rs")));
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "the blocks were not found");
    let begins = format!("let client = Client::new(\"{ADDRESS}\")?;\n");
    for block in blocks {
        let block = bare(block);
        assert!(here.contains(block.strip_prefix(&begins).unwrap_or(&block)), "not run:\n{block}");
    }
    assert!(Client::new(ADDRESS).is_ok());
}

/// A promise: every setting of producer and consumer stands in the page's tables, and no other.
#[test]
fn the_page_has_every_setting() {
    let fields = |debug: String| -> BTreeSet<String> {
        debug
            .lines()
            .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    let tables = |section: &str| -> BTreeSet<String> {
        let page = page();
        let section = page.split(&format!("## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
        let names =
            section.lines().filter(|line| line.starts_with("| `")).flat_map(|line| line[2..].split('|').next().unwrap().split(", "));
        names.map(|name| name.trim().trim_matches('`').to_owned()).collect()
    };
    assert_eq!(tables("Many records in"), fields(format!("{:#?}", ProducerConfig::default())));
    assert_eq!(tables("Many records out"), fields(format!("{:#?}", ConsumerConfig::default())));
}
