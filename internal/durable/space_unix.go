//go:build unix

package durable

import "golang.org/x/sys/unix"

var noSpace = []error{unix.ENOSPC, unix.EDQUOT}
