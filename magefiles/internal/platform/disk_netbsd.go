package platform

import "golang.org/x/sys/unix"

// FreeDisk is how many bytes an ordinary user can still write to the file system of folder.
func FreeDisk(folder string) (int64, error) {
	var stat unix.Statvfs_t
	err := unix.Statvfs(folder, &stat)
	return int64(stat.Bavail) * int64(stat.Frsize), err
}
