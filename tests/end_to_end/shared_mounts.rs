//! A machine whose mounts are shared, as systemd makes them: nothing that a plan mounts comes to stand on the machine, and
//! nothing that the machine mounts later comes to stand in the walls.

use harness::{Missing, Script, ScriptedModel, Stage, assessment, is_root, lacks, launches};

const AS_ROOT: &[&str] = &["unshare", "--mount", "--propagation", "shared"];
/// An ordinary user who may mount, and whose command may not.
const AS_A_USER: &[&str] = &[
    "unshare",
    "--user",
    "--map-user=1000",
    "--map-group=1000",
    "--keep-caps",
    "--mount",
    "--propagation",
    "shared",
];

/// Mounts something in the workspace while the command (the words) runs, then tells what of the plan is left.
const MACHINE: &str = r#"
setpriv --ambient-caps -all --inh-caps -all "$@" & runner=$!
for i in $(seq 200); do [ -e started ] && break; sleep 0.05; done
mount -t tmpfs none sub && touch sub/of-the-machine && touch go
wait $runner; code=$?
echo "mounted: $(grep -c -F " $PWD/" /proc/self/mountinfo)"
umount sub && rm -f started go
ls -A
exit $code"#;

/// Waits until the machine has mounted its own, then says what is seen of it.
const COMMAND: &str = "touch started; for i in $(seq 200); do [ -e go ] && break; sleep 0.05; done; \
                       [ -e go ] && echo \"seen: $(ls -A sub)\"";

#[test]
fn what_a_plan_mounts_and_what_the_machine_mounts_stay_apart() {
    let model = ScriptedModel::start(Script::Says(assessment("allow", "low", "unknown")));
    for launcher in [AS_ROOT, AS_A_USER] {
        if launcher == AS_ROOT && !is_root() {
            continue;
        }
        if !launches(launcher) {
            lacks(Missing::UserNamespace, "a machine whose mounts are shared");
            return;
        }
        for flags in [&[][..], &["--sandbox", "workspace-write"], &["--escalate"]] {
            let stage = Stage::new();
            stage.runner_settings(&model.table("openai-responses"));
            std::fs::create_dir(stage.workspace("sub")).expect("a folder");
            let words = launcher.iter().copied();
            let ran = stage
                .exec(flags, &["sh", "-c", COMMAND])
                .launched_by(words.chain(["sh", "-c", MACHINE, "sh"]))
                .ran();
            let text = ran.text();
            let shown = format!("{launcher:?} {flags:?}: {text}{}", ran.stderr);
            assert_eq!(ran.code(), 0, "{shown}");
            assert!(text.contains("seen: \n"), "{shown}");
            // The machine's own is all there is.
            assert!(text.contains("mounted: 1\n"), "{shown}");
            assert!(!text.contains(".agents"), "{shown}");
        }
    }
}
