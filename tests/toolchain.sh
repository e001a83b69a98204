#!/bin/sh
# Prints the name of an installed toolchain that is the release rust-toolchain.toml asks for, where it is installed under
# another name (`stable`): rustup would fetch the release once more, or fail where it cannot. Prints nothing otherwise.
command -v rustup >/dev/null || exit 0
cd "$(dirname "$0")/.." || exit 1
wanted=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
installed=$(rustup toolchain list | cut -d' ' -f1)
case "$installed" in *"$wanted"*) exit 0 ;; esac
for name in $installed; do
  case "$(rustup run "$name" rustc --version 2>/dev/null)" in
    "rustc $wanted "*) echo "$name"; exit 0 ;;
  esac
done
