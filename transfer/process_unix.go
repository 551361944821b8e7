//go:build unix

package transfer

import (
	"os/exec"
	"syscall"
)

// killGroup makes a cancelled command take everything it started with it.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
