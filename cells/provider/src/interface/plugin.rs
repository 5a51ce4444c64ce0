//! The CNI plugin, last in the chain of a cell's node: it changes no result, and does something for pods alone that
//! ask for a tenant's network by annotation.
//!
//! Configuration on standard input, the rest in the environment, results and errors on standard output, as version
//! 1.0.0 of the specification says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};
use skep_core::Cpid;
use skep_core::labels::TENANT_INTERFACE;

use super::{Cable, PLUGIN, Place, RECORDS, Record, prepare, router_path};
use crate::error::Error;

/// The versions of the specification that are spoken, all with the same words here.
const VERSIONS: [&str; 2] = ["0.4.0", "1.0.0"];
/// The specification's numbers for errors; from 100 on they are the plugin's own.
const BAD_ENVIRONMENT: u32 = 4;
const BAD_CONFIGURATION: u32 = 6;
const FAILED: u32 = 100;

/// What the runtime passes on of a pod.
#[derive(Debug, Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default, rename = "io.kubernetes.cri.pod-annotations")]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(flatten)]
    place: Place,
    #[serde(default)]
    prev_result: Option<Value>,
    #[serde(default, rename = "runtimeConfig")]
    runtime: RuntimeConfig,
}

/// What is asked for, in which container's namespace.
#[derive(Debug)]
struct Call {
    command: String,
    container: String,
    netns: PathBuf,
}

/// An answer that is no result.
#[derive(Debug)]
struct Refused {
    code: u32,
    message: String,
}

impl Refused {
    fn new(code: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(source) = next {
            message = format!("{message}: {source}");
            next = source.source();
        }
        Self::new(FAILED, message)
    }
}

/// Whether this process was called by the plugin's name.
pub fn is_plugin() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_name().is_some_and(|name| name == PLUGIN))
}

/// Does what the container runtime asks of the plugin.
pub fn run_plugin() -> ExitCode {
    let (answer, code) = match answer() {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(Refused { code, message }) => {
            let answer = json!({"cniVersion": "1.0.0", "code": code, "msg": message});
            (Some(answer), ExitCode::FAILURE)
        }
    };
    if let Some(answer) = answer {
        println!("{answer}");
    }
    code
}

fn answer() -> Result<Option<Value>, Refused> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let call = Call {
        command: variable("CNI_COMMAND"),
        container: variable("CNI_CONTAINERID"),
        netns: variable("CNI_NETNS").into(),
    };
    if call.command == "VERSION" {
        return Ok(Some(
            json!({"cniVersion": "1.0.0", "supportedVersions": VERSIONS}),
        ));
    }
    let text = std::io::read_to_string(std::io::stdin()).map_err(|error| {
        Refused::new(
            BAD_CONFIGURATION,
            format!("cannot read the configuration: {error}"),
        )
    })?;
    call.answer(&text)
}

impl Call {
    fn answer(&self, config: &str) -> Result<Option<Value>, Refused> {
        let config: Config = serde_json::from_str(config)
            .map_err(|error| Refused::new(BAD_CONFIGURATION, format!("no configuration: {error}")))?;
        let wanted = config.wanted()?;
        match self.command.as_str() {
            "ADD" => {
                if let Some(cpid) = wanted {
                    block_on(self.add(&config.place, cpid))?;
                }
                let missing = || {
                    Refused::new(
                        BAD_CONFIGURATION,
                        "prevResult: must be there: the plugin is chained",
                    )
                };
                config.prev_result.map(Some).ok_or_else(missing)
            }
            // The interface goes with the pod's namespace.
            "DEL" => {
                Record::remove(&self.record()?);
                Ok(None)
            }
            "CHECK" => match wanted {
                Some(cpid) => block_on(self.check(&config.place, &cpid)).map(|()| None),
                None => Ok(None),
            },
            other => Err(Refused::new(
                BAD_ENVIRONMENT,
                format!("CNI_COMMAND: {other:?} is not known"),
            )),
        }
    }

    async fn add(&self, place: &Place, cpid: Cpid) -> Result<(), Refused> {
        let file = self.record()?;
        prepare(&self.netns, place.slot).await?;
        let router = router_path(place, &cpid);
        // The host reads the path from without, where a link in it would lead elsewhere.
        let netns = std::fs::canonicalize(&self.netns).map_err(Error::io("find", &self.netns))?;
        // Written before the router is looked for, as the host makes the router before it looks for records.
        Record { cpid, netns }.write(&file)?;
        let _lock = Record::lock(&file)?;
        let (pod, router) = (self.netns.as_path(), router.as_path());
        Cable { pod, router }.ensure().await?;
        Ok(())
    }

    async fn check(&self, place: &Place, cpid: &Cpid) -> Result<(), Refused> {
        let router = router_path(place, cpid);
        let (pod, router) = (self.netns.as_path(), router.as_path());
        if (Cable { pod, router }).is_whole().await? {
            return Ok(());
        }
        Err(Refused::new(
            FAILED,
            format!("the pod is not in the network of tenant {cpid}"),
        ))
    }

    fn record(&self) -> Result<PathBuf, Refused> {
        let is_symbol = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if self.container.is_empty() || !self.container.chars().all(is_symbol) {
            return Err(Refused::new(
                BAD_ENVIRONMENT,
                "CNI_CONTAINERID: is no name of a container",
            ));
        }
        Ok(Path::new(RECORDS).join(format!("{}.json", self.container)))
    }
}

impl Config {
    /// The tenant whose network the pod asks for.
    fn wanted(&self) -> Result<Option<Cpid>, Refused> {
        let annotations = self.runtime.annotations.as_ref();
        let asked = annotations.and_then(|all| all.get(TENANT_INTERFACE));
        asked.map(|text| text.parse()).transpose().map_err(|error| {
            Refused::new(
                BAD_CONFIGURATION,
                format!("annotation {TENANT_INTERFACE}: {error}"),
            )
        })
    }
}

fn block_on(work: impl Future<Output = Result<(), Refused>>) -> Result<(), Refused> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refused::new(FAILED, format!("cannot start: {error}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str) -> Call {
        Call {
            command: command.into(),
            container: "0123abcd".into(),
            netns: "/nowhere".into(),
        }
    }

    fn config(annotations: &Value, result: &Value) -> String {
        json!({
            "cniVersion": "1.0.0", "name": "skep", "type": PLUGIN, "instance": "skep", "slot": 0,
            "prevResult": result,
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
        })
        .to_string()
    }

    #[test]
    fn a_pod_that_asks_for_nothing_is_passed_through() {
        let result = json!({"cniVersion": "1.0.0", "ips": [{"address": "198.18.16.2/24", "interface": 0}]});
        for annotations in [json!({"other": "x"}), json!({}), Value::Null] {
            let answer = call("ADD").answer(&config(&annotations, &result)).unwrap();
            assert_eq!(answer, Some(result.clone()));
        }
        assert_eq!(
            call("DEL").answer(&config(&Value::Null, &Value::Null)).unwrap(),
            None
        );
        assert_eq!(
            call("CHECK").answer(&config(&Value::Null, &result)).unwrap(),
            None
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let code = |command: &str, config: &str| call(command).answer(config).unwrap_err().code;
        assert_eq!(code("ADD", "{}"), BAD_CONFIGURATION);
        assert_eq!(
            code("ADD", &config(&Value::Null, &Value::Null)),
            BAD_CONFIGURATION
        );
        let outside = json!({TENANT_INTERFACE: "../switch"});
        assert_eq!(code("ADD", &config(&outside, &json!({}))), BAD_CONFIGURATION);
        assert_eq!(code("GC", &config(&Value::Null, &json!({}))), BAD_ENVIRONMENT);
    }

    #[test]
    fn a_failure_keeps_the_pod_from_starting_and_says_why() {
        let own = json!({TENANT_INTERFACE: "cabcdefghi"});
        let refused = call("ADD").answer(&config(&own, &json!({}))).unwrap_err();
        assert_eq!(refused.code, FAILED);
        assert!(refused.message.contains("/nowhere"), "{}", refused.message);
    }
}
