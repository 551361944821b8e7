//go:build unix

package bucket

import "syscall"

// A pipe put in a file's place just now must not stop us.
const openNonblock = syscall.O_NONBLOCK
