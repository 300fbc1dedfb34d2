"""Tests of disks, queues, devices and buffers."""
