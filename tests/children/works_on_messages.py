"""Answers messages, each as it says itself: an echo, its end by a signal, or nothing for ever."""

import os
import signal
import sys

from handler.machine import end_with_parent, receive_message, send_message

end_with_parent(int(sys.argv[1]))
while True:
    head, pieces = receive_message(sys.stdin.buffer)
    match head["do"]:
        case "echo":
            send_message(sys.stdout.buffer, {"pid": os.getpid()}, *pieces)
        case "end":
            os.kill(os.getpid(), head["signal"])
        case "hang":
            while True:
                signal.pause()
