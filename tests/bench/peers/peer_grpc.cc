// The service of peers.proto on gRPC C++, with its callback API.
//
//   peer_grpc --port-file FILE
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "peers.grpc.pb.h"

namespace {

constexpr int kStreams = 1100;  // what the others allow, too

// One stream. At any time it has a write under way, waits for its alarm, hangs, or is finished.
class Counter : public grpc::ServerWriteReactor<peers::v1::Payload> {
 public:
  Counter(grpc::CallbackServerContext* context, const peers::v1::CountRequest& request)
      : context_(context), left_(request.messages()), pause_(request.pause_ms()), hangs_(request.hang()) {
    payload_.set_data(std::string(request.bytes(), 'x'));
    Advance();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      FinishOnce(grpc::Status::CANCELLED);
    } else if (left_ == 0 || pause_.count() == 0) {
      Advance();
    } else {
      due_ += pause_;
      alarm_.Set(due_, [this](bool) { Advance(); });
    }
  }

  // A write or an alarm under way ends soon, and asks IsCancelled(); nothing else would end one that hangs.
  void OnCancel() override {
    if (is_hanging_) {
      FinishOnce(grpc::Status::CANCELLED);
    }
  }

  void OnDone() override { delete this; }

 private:
  void Advance() {
    if (context_->IsCancelled()) {
      FinishOnce(grpc::Status::CANCELLED);
    } else if (left_ > 0) {
      --left_;
      StartWrite(&payload_);
    } else if (!hangs_) {
      FinishOnce(grpc::Status::OK);
    } else {
      is_hanging_ = true;
      if (context_->IsCancelled()) {  // before OnCancel() could see that it hangs
        FinishOnce(grpc::Status::CANCELLED);
      }
    }
  }

  void FinishOnce(const grpc::Status& status) {
    if (!is_finished_.exchange(true)) {
      Finish(status);
    }
  }

  grpc::CallbackServerContext* const context_;
  uint32_t left_;
  const std::chrono::milliseconds pause_;
  const bool hangs_;
  std::chrono::system_clock::time_point due_ = std::chrono::system_clock::now();
  std::atomic<bool> is_hanging_{false}, is_finished_{false};
  peers::v1::Payload payload_;
  grpc::Alarm alarm_;
};

class Service final : public peers::v1::Peers::CallbackService {
  grpc::ServerUnaryReactor* Echo(grpc::CallbackServerContext* context, const peers::v1::Payload* request,
                                 peers::v1::Payload* reply) override {
    reply->set_data(request->data());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerWriteReactor<peers::v1::Payload>* Count(grpc::CallbackServerContext* context,
                                                      const peers::v1::CountRequest* request) override {
    return new Counter(context, *request);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::puts(grpc::Version().c_str());
    return 0;
  }
  if (argc != 3 || std::strcmp(argv[1], "--port-file") != 0) {
    std::fprintf(stderr, "usage: peer_grpc --version | --port-file FILE\n");
    return 2;
  }
  Service service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreams);
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || !(std::ofstream(argv[2]) << "127.0.0.1:" << port << '\n').flush()) {
    return 1;
  }
  server->Wait();
  return 0;
}
