#!/bin/sh
# What a container begins with: the folders of the volume, ssh if there is a key, then the training
# as the user trader. Words KEY=VALUE are the training's, it goes on where it was stopped; any other
# words are a command. Every step replaces this process, so that SIGTERM reaches the training.
set -eu

user=trader
workspace=${WORKSPACE:-/workspace}

start_ssh() {
    home=$(getent passwd "$user" | cut -d: -f6)
    mkdir -p "$home/.ssh" /run/sshd
    printf '%s\n' "$PUBLIC_KEY" > "$home/.ssh/authorized_keys"
    chmod 700 "$home/.ssh"
    chmod 600 "$home/.ssh/authorized_keys"
    chown -R "$user:$user" "$home/.ssh"
    ssh-keygen -A
    /usr/sbin/sshd -o PermitRootLogin=no -o PasswordAuthentication=no -o "AllowUsers=$user"
}

if [ "$(id -u)" = 0 ]; then
    for folder in bars checks runs .cache; do
        mkdir -p "$workspace/$folder"
        chown "$user:$user" "$workspace/$folder" || echo "warning: $workspace/$folder: not given to $user" >&2
    done
    if [ -n "${PUBLIC_KEY:-}" ]; then
        start_ssh
    fi
    HOME=$(getent passwd "$user" | cut -d: -f6)
    export HOME
    exec setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs "$0" "$@"
fi

if ! [ -w "$workspace/runs" ]; then
    echo "error: $workspace/runs: user $(id -u) cannot write there; mount a volume that it can" >&2
    exit 5
fi
case "${1:-}" in
"" | *=*) exec python pipelines/ppo_transformer.py resume=auto "$@" ;;
*) exec "$@" ;;
esac
