#!/usr/bin/env bash
# Makes a Python environment with the packages that a file pins. Does nothing where it is already that.
# usage: venv.sh FOLDER REQUIREMENTS
set -euo pipefail
folder=${1:?usage: venv.sh FOLDER REQUIREMENTS}
requirements=${2:?usage: venv.sh FOLDER REQUIREMENTS}

# The copy is put there last: an installation that broke off is begun again.
! cmp --silent "$requirements" "$folder/requirements.txt" || exit 0
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --requirement "$requirements"
cp "$requirements" "$folder/requirements.txt"
