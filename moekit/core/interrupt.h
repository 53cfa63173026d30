#pragma once

namespace moekit {

/// While it lives, SIGINT and SIGTERM set a flag instead of ending the process; a second signal
/// ends it at once. Only programs install it, never the library itself.
class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard();
};

/// Whether a signal arrived since the guard was installed.
bool interrupted();

}  // namespace moekit
