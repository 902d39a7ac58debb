//! Programs that take a protection of the machine or of a cloud away.
//!
//! Apart from the other programs because it is a list that grows with the guards of the world. Invariant: only certain
//! words count, and a form that only asks is none.

/// Parts of the names of services that guard a machine, or keep the record of what happens on it.
const GUARDS: &str = "\
    fail2ban rsyslog syslog journald wazuh ossec sysmon sentinel carbonblack cbagent mdatp tripwire aide samhain \
    rkhunter suricata snort falco tetragon usbguard snapper opensnitch littlesnitch firewalld ufw apparmor \
    auditd selinux iptables nftables clamav falcon osquery sshguard crowdsec";

/// Whether a call takes a protection away.
pub(super) fn switches_off(program: &str, texts: &[&str]) -> bool {
    let any = |wanted: &[&str]| texts.iter().any(|text| wanted.contains(text));
    let guard = || {
        texts
            .iter()
            .any(|text| GUARDS.split_whitespace().any(|guard| text.contains(guard)))
    };
    match program {
        "systemctl" | "service" | "rc-service" => {
            any(&["stop", "disable", "mask", "kill"]) && guard()
        }
        "launchctl" => any(&["unload", "bootout", "disable", "remove"]) && guard(),
        "passwd" => any(&["-d", "--delete"]),
        "visudo" | "useradd" | "usermod" | "adduser" | "chpasswd" => true,
        "setcap" => texts.iter().any(|text| gives_rights(text)),
        "history" => any(&["-c"]),
        "dockerd" => texts.iter().any(|text| text.contains("tcp://0.0.0.0")),
        _ => {
            opens_network(program, &any)
                || weakens_kernel(program, texts, &any)
                || in_cloud(program, texts)
        }
    }
}

fn opens_network(program: &str, any: &dyn Fn(&[&str]) -> bool) -> bool {
    match program {
        "iptables" | "ip6tables" => {
            any(&["-F", "--flush", "-X"]) || (any(&["-P"]) && any(&["ACCEPT"]))
        }
        "nft" => any(&["flush"]),
        "ufw" => any(&["disable", "reset"]),
        "firewall-cmd" => any(&["--panic-off", "--set-default-zone=trusted"]),
        "pfctl" => any(&["-d", "-F"]),
        _ => false,
    }
}

fn weakens_kernel(program: &str, texts: &[&str], any: &dyn Fn(&[&str]) -> bool) -> bool {
    match program {
        "setenforce" => any(&["0", "Permissive", "permissive"]),
        "auditctl" => any(&["-D", "-e"]),
        "csrutil" | "spctl" => any(&["disable", "--master-disable", "--global-disable"]),
        "aa-teardown" | "aa-disable" | "aa-complain" => true,
        "sysctl" => texts.iter().any(|text| {
            let guard = ["kernel.randomize_va_space", "kernel.yama", "kernel.kptr"]
                .iter()
                .any(|name| text.starts_with(name));
            guard && text.contains('=')
        }),
        "insmod" | "kextload" => true,
        "modprobe" => texts.iter().any(|text| text.contains('/')),
        "kexec" => any(&["-l", "--load", "-e", "--exec"]),
        "mokutil" => any(&["--disable-validation"]),
        "bcdedit" => texts
            .iter()
            .any(|text| text.eq_ignore_ascii_case("testsigning")),
        "wevtutil" => any(&["cl", "clear-log"]),
        _ => false,
    }
}

/// Rights of a program that let it do what root does.
fn gives_rights(text: &str) -> bool {
    [
        "cap_setuid",
        "cap_setgid",
        "cap_sys_",
        "cap_dac_",
        "cap_chown",
        "cap_fowner",
        "all=",
    ]
    .iter()
    .any(|right| text.contains(right))
}

/// The record of what happens in a cloud, or its watch, goes.
fn in_cloud(program: &str, texts: &[&str]) -> bool {
    let any = |wanted: &str| texts.contains(&wanted);
    match program {
        "aws" => matches!(
            texts,
            ["cloudtrail", "stop-logging" | "delete-trail", ..]
                | ["guardduty", "delete-detector" | "disassociate-members", ..]
                | [
                    "configservice",
                    "stop-configuration-recorder" | "delete-configuration-recorder",
                    ..
                ]
                | ["securityhub", "disable-security-hub", ..]
                | ["logs", "delete-log-group", ..]
                | ["s3api", "delete-public-access-block", ..]
                | ["ec2", "delete-flow-logs", ..]
        ),
        "gcloud" => any("logging") && any("sinks") && any("delete"),
        "az" => any("diagnostic-settings") && any("delete"),
        _ => false,
    }
}
