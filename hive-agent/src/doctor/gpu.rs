//! GPUs: which there are, and what their drivers answer.

use super::Finding;
use crate::collect::Roots;
use crate::collect::gpu::{self, NvmlProbe, Probe};

const SUBJECT: &str = "gpu";

pub(super) fn examine(roots: &Roots) -> Vec<Finding> {
    let Probe { nvidia_on_bus, nvml, others } = gpu::probe(&roots.nvml, &roots.sys);
    let mut findings = Vec::new();
    match nvml {
        Ok(answer) => findings.extend(nvidia(nvidia_on_bus, answer)),
        Err(reason) if nvidia_on_bus > 0 => findings.push(Finding::note(
            SUBJECT,
            format!(
                "{nvidia_on_bus} NVIDIA GPUs are on the bus, and their driver's library {} cannot \
                 be asked: {reason}; their figures are null",
                roots.nvml.display()
            ),
            "install the driver (nvidia-smi should list them), in a container pass them through \
             (--gpus all), or name the library with --nvml-library",
        )),
        Err(_) => {}
    }
    findings.extend(others.into_iter().map(|card| Finding::fine(SUBJECT, card)));
    if findings.is_empty() {
        let advice = "nothing, unless there should be one: then look for it with lspci";
        findings.push(Finding::note(SUBJECT, "this machine has no GPU that is known", advice));
    }
    findings
}

fn nvidia(on_bus: usize, answer: NvmlProbe) -> Vec<Finding> {
    let NvmlProbe { driver_version, library_version, devices } = answer;
    let version = |version: Option<String>| version.unwrap_or_else(|| "unknown".into());
    let seen = format!(
        "NVIDIA's driver {} answers through NVML {}, with {} GPUs",
        version(driver_version),
        version(library_version),
        devices.len()
    );
    let mut findings = vec![if devices.len() < on_bus {
        let advice = "look into dmesg for NVRM and Xid: a GPU that fell off the bus needs a reset";
        Finding::note(SUBJECT, format!("{seen}, of {on_bus} on the bus"), advice)
    } else {
        Finding::fine(SUBJECT, seen)
    }];
    findings.extend(devices.into_iter().map(|device| match device {
        Ok(name) => Finding::fine(SUBJECT, name),
        Err(reason) => Finding::note(
            SUBJECT,
            format!("one cannot be read: {reason}"),
            "nvidia-smi -q says more; its figures are null until it answers",
        ),
    }));
    findings
}
