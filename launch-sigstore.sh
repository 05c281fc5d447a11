#!/bin/sh
# Brings the stack back, after a reboot for example, from any folder. On a terminal with tmux it then opens a session
# with a window for each service, which follows its log; run again, it attaches to that session.
set -eu

case $0 in
*/*) cd -- "${0%/*}" ;;
esac
root=$(pwd -P)
state=${SIGLOCAL_STATE:-$root/state}

go tool mage start

if ! [ -t 0 ] || ! [ -t 1 ] || ! command -v tmux >/dev/null 2>&1; then
	exit 0
fi

# A tmux server of its own for each state folder, so that neither the user's sessions nor another stack's are touched.
server=sigstore-local-$(printf '%s' "$state" | cksum | cut -d ' ' -f 1)
if ! tmux -L "$server" has-session -t =sigstore 2>/dev/null; then
	for log in "$state"/logs/*.log; do
		name=${log##*/}
		name=${name%.log}
		if tmux -L "$server" has-session -t =sigstore 2>/dev/null; then
			tmux -L "$server" new-window -d -t =sigstore: -n "$name" tail -n 100 -F "$log"
		else
			tmux -L "$server" new-session -d -s sigstore -n "$name" tail -n 100 -F "$log"
		fi
	done
fi
# Inside a session of another tmux server, the variable TMUX would keep this tmux from attaching.
TMUX='' exec tmux -L "$server" attach-session -t =sigstore
