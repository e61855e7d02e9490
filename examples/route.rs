//! Asks the queen for the best worker of a model, sends it a request, and gives the lease back.
//!
//!     cargo run --example route -- http://127.0.0.1:7833 llama-3.2-1b /v1/models

use std::error::Error;

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [queen, model, path] = &arguments[..] else { return Err("QUEEN MODEL PATH".into()) };
    let http = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();

    let wanted = json!({"model": model}).to_string();
    let mut answer =
        http.post(format!("{queen}/v1/route")).content_type("application/json").send(wanted)?;
    let route: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
    let Some(worker) = route["worker_url"].as_str() else {
        // Why no worker can take it, in a sentence; `considered` has the numbers.
        eprintln!("{}", route["detail"].as_str().unwrap_or("that is no queen"));
        std::process::exit(1);
    };
    println!("{worker} takes it");

    let reply = http.get(format!("{worker}{path}")).call();
    // Whatever came of it, the worker can take another one. A client that forgets this does no
    // harm: the lease ends by itself.
    let lease = route["lease_id"].as_str().unwrap_or_default();
    http.delete(format!("{queen}/v1/route/leases/{lease}")).call()?;
    println!("{}", reply?.body_mut().read_to_string()?);
    Ok(())
}
