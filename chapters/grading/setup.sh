#!/usr/bin/env bash
# Gradescope runs this once, when it builds the autograder's image; nnzip lies in source/nnzip.
set -e
apt-get update
apt-get install -y python3.11 python3.11-venv
cd /autograder/source/nnzip
python3.11 -m venv .venv
.venv/bin/pip install -r chapters/grading/requirements.txt
.venv/bin/pip install --no-deps -e .
