#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>

namespace moekit::test_support {

/// A web server on the loopback address for tests of downloads: serves strings by path, knows
/// "Range: bytes=N-", and can break transfers off.
class HttpServer {
 public:
  HttpServer() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    ::bind(socket_, reinterpret_cast<sockaddr*>(&address), length);
    ::listen(socket_, 8);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~HttpServer() {
    stop_ = true;
    ::shutdown(socket_, SHUT_RDWR);
    ::close(socket_);
    thread_.join();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }

  std::map<std::string, std::string> files;  ///< by path without '/'; set before the first request
  std::atomic<size_t> break_after{0};        ///< bytes of a body after which to hang up; 0: never
  std::atomic<bool> know_ranges{true};
  /// Paths that send elsewhere, as `files`: where to.
  std::map<std::string, std::string> redirects;
  std::atomic<size_t> claimed_length{0};  ///< of a body, in place of its own; 0: its own
  std::string last_request;               ///< head of the last one, to be read after its answer
  std::atomic<int> requests{0};
  std::atomic<size_t> last_start{0};  ///< first byte of the last answer

 private:
  void serve() {
    while (!stop_) {
      const int client = ::accept(socket_, nullptr, nullptr);
      if (client < 0) return;
      answer(client);
      ::close(client);
    }
  }
  void answer(int client) {
    std::string request;
    char buffer[4096];
    while (request.find("\r\n\r\n") == std::string::npos) {
      const auto got = ::recv(client, buffer, sizeof(buffer), 0);
      if (got <= 0) return;
      request.append(buffer, static_cast<size_t>(got));
    }
    last_request = request;
    ++requests;
    const auto begin = request.find('/') + 1;
    const std::string path = request.substr(begin, request.find(' ', begin) - begin);
    if (const auto other = redirects.find(path); other != redirects.end()) {
      return send(client, "HTTP/1.1 302 Found\r\nLocation: " + other->second +
                              "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    const auto found = files.find(path);
    if (found == files.end())
      return send(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    size_t start = 0;
    const auto range = request.find("Range: bytes=");
    if (know_ranges && range != std::string::npos) start = std::stoul(request.substr(range + 13));
    last_start = start;
    if (start > 0 && start >= found->second.size()) {
      return send(client, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
    }
    std::string body = found->second.substr(start);
    std::string head = start > 0 ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " +
                                       std::to_string(start) + "-" +
                                       std::to_string(found->second.size() - 1) + "/" +
                                       std::to_string(found->second.size()) + "\r\n"
                                 : "HTTP/1.1 200 OK\r\n";
    const size_t length = claimed_length > 0 ? claimed_length.load() : body.size();
    head += "Content-Length: " + std::to_string(length) + "\r\nConnection: close\r\n\r\n";
    if (break_after > 0) body.resize(std::min<size_t>(break_after, body.size()));
    send(client, head + body);
  }
  static void send(int client, const std::string& text) {
    size_t done = 0;
    while (done < text.size()) {
      const auto sent = ::send(client, text.data() + done, text.size() - done, MSG_NOSIGNAL);
      if (sent <= 0) return;
      done += static_cast<size_t>(sent);
    }
  }

  int socket_;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace moekit::test_support
