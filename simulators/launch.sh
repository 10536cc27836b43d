#!/bin/sh
# Starts a command on another machine of the task, and gives its output and its exit status; in place of ssh, for
# programs such as mpirun:
#
#     launch [-OPTION]... MACHINE COMMAND...
#
# The words of the command are joined and read by a shell there, as ssh does it, with all variables of this process.
# What is asked stands in files beside this one; the Simulator actor outside of the container reads and answers them.

while [ "${1#-}" != "$1" ]; do shift; done
if [ $# -lt 2 ]; then
    echo "usage: launch MACHINE COMMAND..." >&2
    exit 255
fi
machine=$1
shift
# The name by which the processes of this machine's containers are known.
unset SIMYARD_BOX
call=$(mktemp "${0%/*}/call.XXXXXXXXXX") || exit 255
{
    printf '%s\n' "$machine"
    export -p
    printf '%s\n' "$*"
} >"$call" || exit 255
mv "$call" "$call.asked" || exit 255
number=0
while :; do
    if [ -e "$call.$number.status" ]; then
        cat "$call.$number.out"
        cat "$call.$number.err" >&2
        status=$(cat "$call.$number.status")
        rm -f "$call.$number.out" "$call.$number.err" "$call.$number.status"
        if [ -n "$status" ]; then exit "$status"; fi
        number=$((number + 1))
    else
        sleep 0.1
    fi
done
