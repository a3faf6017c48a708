//! The first words on the screen: what runs, where, and three lines to copy.

use std::path::Path;

/// Three lines for a shell: make a topic, write a record, read it back. They may be run again and again.
pub fn curl_lines(base_url: &str) -> [String; 3] {
    [
        format!("curl -X PUT {base_url}/v1/topics/hello -d '{{\"partitions\":1}}'"),
        format!("curl {base_url}/v1/topics/hello/records -d '{{\"records\":[{{\"key\":\"k1\",\"value\":{{\"hello\":\"world\"}}}}]}}'"),
        format!("curl '{base_url}/v1/topics/hello/partitions/0/records?offset=0'"),
    ]
}

/// What a person sees once the node takes calls.
pub fn text(version: &str, data_dir: &Path, base_url: &str) -> String {
    let [create, produce, fetch] = curl_lines(base_url);
    let data_dir = data_dir.display();
    format!(
        "tidegate {version} is ready\n  address  {base_url}\n  data     {data_dir}\n  docs     {base_url}/docs\n\n\
         Make a topic, write a record, read it back:\n  {create}\n  {produce}\n  {fetch}\n\nCtrl-C stops it; what was acknowledged stays.\n"
    )
}
