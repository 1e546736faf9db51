# The guest's user space: a real shell, and programs that see the guest instead of the host.
# OPTIONS, MEMINFO, KERNEL_LOG, DELAYS, FLASH and EMULATOR come from the fake emulator.
cat() {
    case "$*" in
        /proc/meminfo | '/proc/meminfo /proc/zoneinfo') guest_proc && printf '%s\n' "$MEMINFO" ;;
        /proc/vmallocinfo | /proc/*/statm*) guest_proc ;;
        *) command cat "$@" ;;
    esac
}

guest_proc() {
    has PROC_FS || { echo "cat: can't open '/proc/meminfo': No such file or directory"; return 1; }
}

has() {
    case " $OPTIONS " in *" $1 "*) true ;; *) false ;; esac
}

dmesg() {
    printf '%s\n' "$KERNEL_LOG"
}

# feature NET: what a program gets that uses what the option brings.
feature() {
    for pair in $DELAYS; do
        [ "${pair%=*}" != "$1" ] || sleep "${pair#*=}"
    done
    if has "$1"; then echo "$1 works"; else echo "$1: Function not implemented"; return 1; fi
}

# Flash keeps what is stored in it when the machine restarts.
store() {
    has MTD && printf '%s\n' "$1" | dd of="$FLASH" conv=notrunc 2>/dev/null && echo stored
}

recall() {
    has MTD && head -n 1 "$FLASH"
}

reboot() {
    kill -USR1 "$EMULATOR"
}

echo 'memtotal: user space is up'
